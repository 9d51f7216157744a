"""3D assets."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamfusion.mesh.files.formats import ASSET_SUFFIXES
from dreamfusion.recipe import AssetRecipe
from lab.kinds.kind import Kind, Loader, Output, Planner, Savings
from lab.kinds.pipelines import load_pictures, planned
from lab.outputs import check_clip, check_mesh
from shared.models.pipelines.classes import DISTILLED
from shared.recipe import Recipe

if TYPE_CHECKING:
    from dreamfusion.distill import ViewsState
    from dreamfusion.optimise import DistillState
    from lab.results import Asset
    from shared.artifacts.run_record import RunRecord
    from shared.models.image_model import ImageModel
    from shared.models.made_for import MadeFor
    from shared.models.pipelines.load import DistilledPipeline, PipelineModel


class AssetKind:
    name = "asset"
    recipe: type[Recipe] = AssetRecipe
    default = "asset.glb"
    help = "Make 3D assets from prompts."
    examples: tuple[str, ...] = (
        'kinoform asset "a blue chair" -o chair.glb --turntable chair.mp4',
        'kinoform asset "a red mushroom" "a green car" --preset draft -o assets/',
    )
    formats = ".glb, .obj, .ply, .stl, .3mf or .usdz"
    in_folder = False
    turntable = True
    looping = "distill"
    unused: tuple[str, ...] = ("image_encoder",)
    parts: tuple[str, ...] = ()
    pipelines: frozenset[str] | None = DISTILLED

    def output(self, path: str) -> Output:
        return Output(path) if Path(path).suffix.lower() in ASSET_SUFFIXES else Output(turntable=path)

    def check(self, recipe: AssetRecipe, output: Output) -> None:
        if output.path is not None:
            check_mesh(output.path, recipe.print_size)
        if output.turntable is not None:
            check_clip(output.turntable, recipe.turntable_fps)

    def advice(self, recipe: AssetRecipe, model: MadeFor) -> list[str]:
        return []

    def loader(self) -> Loader:
        return load_pictures

    def image_model(self, model: ImageModel | PipelineModel) -> ImageModel | DistilledPipeline:
        from shared.models.pipelines.load import PipelineModel

        return model.distilled() if isinstance(model, PipelineModel) else model

    def prompts(self, recipe: AssetRecipe) -> list[str]:
        from shared.view_words import view_prompts

        return list(view_prompts(recipe.prompt).values())

    def together(self, recipe: AssetRecipe) -> Hashable:
        return recipe

    def batch_size(self, device: str) -> int:
        return 1  # each has a scene of its own

    def planner(self, device: str) -> tuple[Planner, Savings]:
        from dreamfusion.plan import asset_savings, plan_asset
        from lab.kinds.view_teacher import views_of

        importlib.import_module("shared.artifacts.media")
        importlib.import_module("dreamfusion.asset")
        return partial(planned, partial(plan_asset, views_of=views_of), device=device), asset_savings

    def sample(
        self, model: ImageModel | PipelineModel, recipes: Sequence[AssetRecipe], device: str
    ) -> Iterator[DistillState | ViewsState]:
        from dreamfusion.distill import distill
        from lab.kinds.view_teacher import views_of
        from shared.models.pipelines.load import PipelineModel
        from shared.models.pipelines.prior import prior_of

        if isinstance(model, PipelineModel):
            return distill(prior_of(model), recipes[0], device)
        views = views_of(model) if recipes[0].teacher != "image" else None
        return distill(model, recipes[0], device, views=views)

    def latents(self, state: DistillState | ViewsState, index: int) -> None:
        return None

    def finish(
        self,
        model: ImageModel | PipelineModel,
        recipe: AssetRecipe,
        last: DistillState | ViewsState,
        record: RunRecord,
        device: str,
        timed: Callable[[str], Any],
    ) -> Asset:
        from dreamfusion.asset import export_asset
        from lab.results import Asset

        with timed("mesh"):
            made = export_asset(last.scene, recipe)
        return Asset(made.mesh, made.report, record)

    def save(self, result: Asset, recipe: AssetRecipe, output: Output, timed: Callable[[str], Any]) -> list[Path]:
        written = []
        if output.path is not None:
            with timed("write"):
                written.append(result.save(output.path))
        if output.turntable is not None:
            with timed("turntable"):
                clip = result.turntable(recipe.turntable_frames, recipe.turntable_size, recipe.turntable_fps)
                written.append(clip.save(output.turntable))
        return written

    def read(self, path: Path) -> Asset:
        from dreamfusion.mesh.files.write import load_mesh
        from dreamfusion.mesh.report import mesh_report
        from lab.results import Asset
        from shared.artifacts.run_record import read_record

        mesh = load_mesh(path)
        return Asset(mesh, mesh_report(mesh), read_record(path))

    def facts(self, result: Asset) -> dict[str, Any]:
        return {"mesh": result.report.to_dict()}

    def line(self, result: Asset) -> str:
        return result.report.line()


ASSET: Kind = AssetKind()

"""Pictures."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.kinds.kind import Kind, Loader, Output, Planner, Savings
from lab.kinds.pipelines import load_pictures, planned
from shared.artifacts.files import check_writable
from shared.images.recipe import ImageRecipe
from shared.images.sees import check_sees
from shared.models.made_for import size_advice, steps_advice
from shared.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from lab.results import Picture
    from shared.artifacts.run_record import RunRecord
    from shared.diffusion.sampling import SampleState
    from shared.models.image_model import ImageModel
    from shared.models.made_for import MadeFor
    from shared.models.pipelines.load import PipelineModel
    from shared.models.pipelines.run import PipelineState


class ImageKind:
    name = "image"
    recipe: type[Recipe] = ImageRecipe
    default = "out.png"
    help = "Make pictures from prompts."
    examples: tuple[str, ...] = (
        'kinoform image "a green car next to a blue cube" -o car.png',
        "kinoform image --prompts prompts.txt --count 4 -o 'out/{index}-{prompt}-{seed}.png'",
    )
    formats = ".png, .jpg or .webp"
    in_folder = False
    turntable = False
    looping = "sample"
    unused: tuple[str, ...] = ("image_encoder", "temporal")
    parts: tuple[str, ...] = ()
    pipelines: frozenset[str] | None = None

    def output(self, path: str) -> Output:
        return Output(path)

    def check(self, recipe: ImageRecipe, output: Output) -> None:
        from shared.artifacts.media import IMAGE_SUFFIXES

        if output.path is not None:
            check_writable(output.path, IMAGE_SUFFIXES)

    def advice(self, recipe: ImageRecipe, model: MadeFor) -> list[str]:
        check_sees(recipe, model.sees, recipe.model)
        lines = size_advice(model, recipe.width, recipe.height), steps_advice(model, recipe.steps)
        return [line for line in lines if line]

    def loader(self) -> Loader:
        return load_pictures

    def image_model(self, model: ImageModel | PipelineModel) -> ImageModel | PipelineModel:
        return model

    def prompts(self, recipe: ImageRecipe) -> list[str]:
        return [recipe.prompt]

    def together(self, recipe: ImageRecipe) -> Hashable:
        if recipe.clip_guidance:  # gradients of several at once differ in their last bits from those of one
            return object()
        return recipe.model_copy(update={"prompt": "", "seed": 0})

    def batch_size(self, device: str) -> int:
        return 4 if device == "cpu" else 8

    def planner(self, device: str) -> tuple[Planner, Savings]:
        from shared.images.plan import image_savings, plan_image

        importlib.import_module("shared.artifacts.media")
        return partial(planned, plan_image, device=device), image_savings

    def sample(
        self, model: ImageModel | PipelineModel, recipes: Sequence[ImageRecipe], device: str
    ) -> Iterator[SampleState | PipelineState]:
        from shared.images.generate import sample_images
        from shared.models.pipelines.load import PipelineModel
        from shared.models.pipelines.run import run_pipeline

        if isinstance(model, PipelineModel):
            return run_pipeline(model, recipes[0], device)

        prompts, seeds = [recipe.prompt for recipe in recipes], [recipe.seed for recipe in recipes]
        return sample_images(model, prompts, seeds, recipes[0], device)

    def latents(self, state: SampleState | PipelineState, index: int) -> Tensor | None:
        return None if state.latents is None else state.latents[index : index + 1]

    def finish(
        self,
        model: Any,
        recipe: ImageRecipe,
        last: Tensor | PipelineState,
        record: RunRecord,
        device: str,
        timed: Callable[[str], Any],
    ) -> Picture:
        from lab.results import Picture
        from shared.artifacts.pixels import to_uint8
        from shared.images.generate import decode_images
        from shared.models.pipelines.run import PipelineState

        if isinstance(last, PipelineState):
            return Picture(last.made[0], record)
        with timed("decode"):
            return Picture(to_uint8(decode_images(model, last, recipe, device))[0], record)

    def save(self, result: Picture, recipe: ImageRecipe, output: Output, timed: Callable[[str], Any]) -> list[Path]:
        if output.path is None:
            return []
        with timed("write"):
            return [result.save(output.path)]

    def read(self, path: Path) -> Picture:
        from lab.results import Picture
        from shared.artifacts.media import read_image
        from shared.artifacts.run_record import read_record

        return Picture(read_image(path), read_record(path))

    def facts(self, result: Picture) -> dict[str, Any]:
        return {}

    def line(self, result: Picture) -> str:
        return ""


IMAGE: Kind = ImageKind()

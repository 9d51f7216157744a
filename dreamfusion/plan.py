"""What an asset takes: a fit to sampled views, score distillation, and what meshing asks of the field, run without
values.

Which samples of a ray are evaluated depends on values, so their shares are assumed (SHARES).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from einops import rearrange

from dreamfusion.critics import ViewTeacher
from dreamfusion.distill import distill, skipped, view_teacher
from dreamfusion.fit import LEVELS
from dreamfusion.mesh.extract import silhouette_views
from dreamfusion.recipe import AssetRecipe
from dreamfusion.render.volume import render_rays
from dreamfusion.scene import Scene
from dreamfusion.things import things_of
from shared.images.plan import TRACED_STEPS, image_networks, placement, saved, with_plain_sampler
from shared.models.adapters.recipe import weighing
from shared.models.image_model import ImageModel, load_image_model
from shared.plan.estimate import Estimate, trace_run

# Share of a mask's true elements, by the operation that made it.
SHARES = {
    torch.ops.aten.lt: 0.43,  # samples inside the ball: 65% of a picture's rays meet it, along 2/3 of its diameter
    torch.ops.aten.index: 0.6,  # of these, samples in occupied cells
    torch.ops.aten.ge: 0.15,  # of these, samples with enough weight for a normal
}
SILHOUETTE_SAMPLES = 96  # those of `choose_threshold`
CELL_BYTES = 64  # of a cell of the mesher's grid, in the double precision arrays that it goes through


def plan_asset(
    recipe: AssetRecipe, device: str = "cpu", *, views_of: Callable[[ImageModel], ViewTeacher | None] = lambda _: None
) -> Estimate:
    """views_of: the teacher of several views that a model brings along.

    Raises ModelError as `load_image_model` does, for everything but the values of the weights.
    """

    times: list[float] = []  # how often the whole run does what leads to each state of the short one

    def load() -> tuple[ImageModel, ViewTeacher | None]:
        model = with_plain_sampler(load_image_model(recipe.model, **placement(recipe, device), **weighing(recipe)))
        return model, views_of(model) if recipe.teacher != "image" else None

    def networks(loaded: tuple[ImageModel, ViewTeacher | None]) -> list[Any]:
        model, teacher = loaded
        unet, *others = image_networks(model)
        return [unet if teacher is None else teacher.denoiser.network, *others]  # the UNet is in the teacher's

    def run(loaded: tuple[ImageModel, ViewTeacher | None]) -> Iterator[object]:
        model, teacher = loaded
        # One step with the first renders and colours, one with the last renders and shading by normals.
        coarse = recipe.coarse_share if recipe.coarse_share in (0.0, 1.0) else 0.5
        changes = {"steps": 2, "coarse_share": coarse, "albedo_first": 0.5, "compile": False, "fit_share": 0.0}
        changes["apart"] = False
        fitted = 0
        if recipe.fit_steps and view_teacher(recipe, teacher) is not None:
            sampling = min(recipe.fit_sampling_steps, TRACED_STEPS)
            changes |= {"fit_sampling_steps": sampling, "fit_steps": LEVELS}  # one step of each size
            times.extend([1, recipe.fit_sampling_steps - 2, 1] if sampling == TRACED_STEPS else [1] * sampling)
            times.extend([recipe.fit_steps / LEVELS] * LEVELS)
            fitted = skipped(recipe)
        coarse_steps = max(recipe.coarse_share * recipe.steps - fitted, 0)
        times.extend([coarse_steps, recipe.steps - fitted - coarse_steps])
        short = recipe.model_copy(update=changes)
        state = None
        for state in distill(model, short, views=teacher):
            yield state
        assert state is not None, "two steps"
        assert isinstance(state.scene, Scene), "one thing"
        with torch.no_grad():
            first = silhouette_views().cameras[0]
            rays = [rearrange(part, "1 h w c -> (h w) c").to(device) for part in first.rays()]
            render_rays(state.scene.field, *rays, samples=SILHOUETTE_SAMPLES)
        grid = torch.empty(CELL_BYTES, recipe.mesh_resolution**3, dtype=torch.uint8)
        yield grid

    trace = trace_run(
        load,
        networks,
        run,
        device=device,
        share=lambda operation: SHARES.get(operation, 1.0),
        saved=lambda loaded: saved(recipe, [loaded[0].unet, *loaded[0].encoders]),
    )
    runs = 2 if recipe.apart and things_of(recipe.prompt) else 1  # one after the other
    return trace.estimate(device, [runs * each for each in times])


def asset_savings(recipe: AssetRecipe) -> Iterator[dict[str, Any]]:
    """Changes of a recipe that make it smaller, those that cost least first."""
    yield {"checkpointing": True}
    views = recipe.views
    while views > 1:
        views //= 2
        yield {"views": views}
    for size in (64, 32):
        if size < recipe.render_size:
            yield {"render_size": size, "coarse_render_size": min(size, recipe.coarse_render_size)}
    if recipe.mesh_resolution > 96:
        yield {"mesh_resolution": 96}

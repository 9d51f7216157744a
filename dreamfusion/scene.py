"""What is optimised, and how it is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dreamfusion.fields.background import BackgroundNetwork, random_grey
from dreamfusion.fields.field import GridField, TrainableField, TriplaneField
from dreamfusion.fields.occupancy import OccupancyGrid
from dreamfusion.recipe import AssetRecipe
from dreamfusion.render.shading import Shading
from dreamfusion.render.volume import RayRender, joined, render_rays
from dreamfusion.things import Relation
from dreamfusion.views import Views
from shared.plugins import load
from shared.rng import generator

LEAST_WEIGHT = 0.02  # samples with less weight in their pixel are not worth a normal


@dataclass(frozen=True)
class Scene:
    """What distillation optimises. background: None where a uniform grey is drawn for each view."""

    field: TrainableField
    background: BackgroundNetwork | None = None


@dataclass(frozen=True)
class Arrangement:
    """Two things made one by one: scenes, and how the first stands to the second."""

    things: tuple[Scene, Scene]
    relation: Relation


def new_scene(recipe: AssetRecipe, device: str | torch.device = "cpu") -> Scene:
    """The scene at step 0, drawn from the recipe's seed."""
    draw = generator(recipe.seed, 0)
    own: dict[str, Any] = {"triplane": TriplaneField, "grid": GridField}
    make = own.get(recipe.field) or load("fields", recipe.field)
    field = make(recipe.radius, resolution=recipe.field_resolution, generator=draw).to(device)
    background = BackgroundNetwork(generator=draw).to(device) if recipe.background == "network" else None
    return Scene(field, background)


def render_views(
    scene: Scene,
    views: Views,
    *,
    samples: int,
    shading: Shading,
    occupancy: OccupancyGrid | None,
    draw: torch.Generator | None,
    device: str | torch.device,
    checkpointing: bool = False,
    behind: Float[Tensor, "views 3"] | None = None,
) -> tuple[Float[Tensor, "views 3 h w"], RayRender]:
    """Pixels in [-1, 1] of every view, over a grey for each view or the scene's background; and the rays, flat.

    draw: for the greys and the samples' offsets; None takes the middle of each interval, and mid grey.
    behind: colours in [0, 1] in place of either background, one for each view.
    checkpointing: go view by view, and for gradients compute a view again: memory is that of one view.
    """
    count, height, width = len(views), views.cameras.height, views.cameras.width
    origins, directions = (rearrange(r, "n h w c -> (n h w) c").to(device) for r in views.cameras.rays())
    light = repeat(views.light, "n c -> (n h w) c", h=height, w=width).to(device)
    offset = None if draw is None else torch.rand(len(origins), generator=draw).to(device)
    render = partial(
        render_rays, scene.field, samples=samples, shading=shading, normal_step=scene.field.radius / 48,
        occupancy=occupancy, least_weight=LEAST_WEIGHT,
    )  # fmt: skip
    if checkpointing:
        size = height * width
        parts = [x.split(size) if x is not None else [None] * count for x in (origins, directions, light, offset)]
        rays = joined([
            checkpoint(render, o, d, light=each_light, offset=each_offset, use_reentrant=False)
            for o, d, each_light, each_offset in zip(*parts, strict=True)
        ])  # fmt: skip
    else:
        rays = render(origins, directions, light=light, offset=offset)
    if behind is None and scene.background is not None:
        background = scene.background(directions)
    else:
        if behind is None:
            behind = torch.full((count, 3), 0.5) if draw is None else random_grey(count, draw)
        background = repeat(behind, "n c -> (n h w) c", h=height, w=width).to(device)
    colour = rays.colour + (1 - rays.opacity[:, None]) * background
    return rearrange(2 * colour - 1, "(n h w) c -> n c h w", n=count, h=height), rays

"""From a prompt to a radiance field, by score distillation: one generator that yields after every step.

    for state in distill(model, recipe):
        ...                     # show state.gradient_rms, look at state.pixels, or stop whenever you like
    state.scene                 # the field, ready to mesh

Each step renders a few random views, asks the prior which way they should change (`dreamfusion.guidance.sds`), and
takes an optimizer step. Renders start small and grow; the most noise falls over the run (`t_max` to `t_max_final`),
which settles the shape first and the details after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dreamfusion.critics import Critic, ViewTeacher, score_critic, view_critic
from dreamfusion.fields.background import BackgroundNetwork, random_grey
from dreamfusion.fields.field import GridField, TrainableField, TriplaneField, device_of
from dreamfusion.fields.occupancy import OccupancyGrid, occupancy_of
from dreamfusion.losses import opacity_loss
from dreamfusion.recipe import AssetRecipe
from dreamfusion.render.shading import Shading
from dreamfusion.render.volume import RayRender, joined, render_rays
from dreamfusion.views import Views, sample_views
from shared.compute.modes import applied, checkpointed, moved
from shared.errors import KinoformError, ModelError
from shared.models.image_model import ImageModel
from shared.plugins import load
from shared.rng import generator

OCCUPANCY_EVERY = 10  # steps between updates of the occupancy grid
LEAST_TOGETHER = 4  # views of one step, where a teacher sees them together
LEAST_WEIGHT = 0.02  # samples with less weight in their pixel are not worth a normal


@dataclass(frozen=True)
class Scene:
    """What distillation optimises. background: None where a uniform grey is drawn for each view."""

    field: TrainableField
    background: BackgroundNetwork | None = None


@dataclass(frozen=True)
class DistillState:
    """After `step` of `total` steps.

    gradient_rms: root mean square of equation 3's gradient. pixels: the step's renders, in [-1, 1]. scene: the live
    scene, which the next step changes.
    """

    step: int
    total: int
    gradient_rms: float
    scene: Scene
    pixels: Float[Tensor, "views 3 h w"]


def distill(
    model: ImageModel,
    recipe: AssetRecipe,
    device: str | torch.device | None = None,
    *,
    views: ViewTeacher | None = None,
) -> Iterator[DistillState]:
    """Optimise a new scene for `recipe.prompt`; yields `recipe.steps` states.

    model: the prior. device: where to compute; where the model is, unless given. views: what knows several views of one
    thing at once, if anything does; `recipe.teacher` says which of the two is asked.
    Raises ModelError where it is the one that is not there.
    """
    device = model.unet.device if device is None else device
    vae = model.codec.vae
    teacher = view_teacher(recipe, views)
    prior = model.denoiser if teacher is None else teacher.denoiser
    with (
        moved(vae, device),
        checkpointed(vae, recipe.checkpointing),
        applied(recipe.memory, device, prior, before=[model.text.text_encoder]) as denoiser,
    ):
        if teacher is None:
            critic = score_critic(model, recipe, denoiser)
        else:
            critic = view_critic(model, recipe, replace(teacher, denoiser=denoiser))
        yield from optimise(new_scene(recipe, device), critic, recipe, level=teacher is not None)


def view_teacher(recipe: AssetRecipe, views: ViewTeacher | None) -> ViewTeacher | None:
    """`views` where the recipe asks it, None where it asks the image model."""
    if recipe.teacher == "views" and views is None:
        raise ModelError(
            f"teacher of {recipe.model}", expected="a model trained on views", got="one that was not",
            hint="kinoform train video --views-share 0.3, or --teacher image",
        )  # fmt: skip
    return None if recipe.teacher == "image" else views


def new_scene(recipe: AssetRecipe, device: str | torch.device = "cpu") -> Scene:
    """The scene at step 0, drawn from the recipe's seed."""
    draw = generator(recipe.seed, 0)
    own: dict[str, Any] = {"triplane": TriplaneField, "grid": GridField}
    make = own.get(recipe.field) or load("fields", recipe.field)
    field = make(recipe.radius, resolution=recipe.field_resolution, generator=draw).to(device)
    background = BackgroundNetwork(generator=draw).to(device) if recipe.background == "network" else None
    return Scene(field, background)


def optimise(scene: Scene, critic: Critic, recipe: AssetRecipe, *, level: bool = False) -> Iterator[DistillState]:
    """The loop: render, ask `critic`, step. level: all views of a step from one height, evenly around.

    Raises KinoformError when the loss stops being a number.
    """
    device = device_of(scene.field)
    groups = scene.field.parameter_groups(recipe.learning_rate)
    if scene.background is not None:
        groups.append({"params": list(scene.background.parameters()), "lr": recipe.learning_rate / 10})
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15)
    occupancy: OccupancyGrid | None = None
    for step in range(recipe.steps):
        done = step / recipe.steps
        draw = generator(recipe.seed, 1, step)
        size = recipe.coarse_render_size if done < recipe.coarse_share else recipe.render_size
        count = max(recipe.views, LEAST_TOGETHER) if level else recipe.views
        views = sample_views(count, size, draw, overhead_probability=recipe.overhead_probability, level=level)
        shading = _draw_shading(recipe, done, draw)
        if step % OCCUPANCY_EVERY == 0:
            occupancy = occupancy_of(scene.field)
        pixels, rays = render_views(
            scene, views, samples=recipe.samples, shading=shading, occupancy=occupancy, draw=draw, device=device,
            checkpointing=recipe.checkpointing,
        )  # fmt: skip
        loss, gradient_rms = critic(pixels, views, done, step)
        loss = loss + recipe.opacity_weight * opacity_loss(rays.opacity)
        loss = loss + recipe.orientation_weight * rays.orientation.mean()
        if not torch.isfinite(loss):
            raise KinoformError(
                f"score distillation diverged at step {step}", expected="a finite loss", got=loss.item(),
                hint="Use a lower learning_rate or guidance_scale",
            )  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        yield DistillState(step + 1, recipe.steps, gradient_rms, scene, pixels.detach())


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
) -> tuple[Float[Tensor, "views 3 h w"], RayRender]:
    """Pixels in [-1, 1] of every view, over a grey for each view or the scene's background; and the rays, flat.

    draw: for the greys and the samples' offsets; None takes the middle of each interval, and mid grey.
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
    if scene.background is not None:
        behind = scene.background(directions)
    else:
        grey = torch.full((count, 3), 0.5) if draw is None else random_grey(count, draw)
        behind = repeat(grey, "n c -> (n h w) c", h=height, w=width).to(device)
    colour = rays.colour + (1 - rays.opacity[:, None]) * behind
    return rearrange(2 * colour - 1, "(n h w) c -> n c h w", n=count, h=height), rays


def _draw_shading(recipe: AssetRecipe, done: float, draw: torch.Generator) -> Shading:
    u = float(torch.rand((), generator=draw))
    if done < recipe.albedo_first:
        return "albedo"
    if u < recipe.lambertian_probability:
        return "lambertian"
    return "textureless" if u < recipe.lambertian_probability + recipe.textureless_probability else "albedo"

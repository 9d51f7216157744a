"""From a prompt to a radiance field, by score distillation: one generator that yields after every step.

    for state in distill(model, recipe):
        ...                     # show state.gradient_rms, look at state.pixels, or stop whenever you like
    state.scene                 # the field, ready to mesh

Each step renders a few random views, asks the prior which way they should change (`dreamfusion.guidance.sds`), and
takes an optimizer step. Renders start small and grow; the most noise falls over the run (`t_max` to `t_max_final`),
which settles the shape first and the details after. A teacher of several views can sample them: then a field fitted to
those (`dreamfusion.fit`) takes the place of the first part of the run. A prompt of two things is two runs, one after
the other (`dreamfusion.things`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import torch

from dreamfusion.critics import Critic, Prior, ViewTeacher, score_critic, view_critic
from dreamfusion.fields.background import random_grey
from dreamfusion.fields.field import device_of
from dreamfusion.fields.occupancy import OccupancyGrid
from dreamfusion.fit import fit, pictures_of, sample_ring
from dreamfusion.losses import opacity_loss
from dreamfusion.optimise import DistillState, Judged, Objective, optimise
from dreamfusion.recipe import AssetRecipe
from dreamfusion.render.shading import Shading
from dreamfusion.scene import Arrangement, Scene, new_scene, render_views
from dreamfusion.things import things_of
from dreamfusion.views import sample_views
from shared.compute.modes import applied, checkpointed, moved
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.sampling import SampleState
from shared.errors import ModelError
from shared.models.image_model import ImageModel
from shared.rng import generator

LEAST_TOGETHER = 4  # views of one step, where a teacher sees them together


@dataclass(frozen=True, kw_only=True)
class ViewsState(SampleState):
    """While views are sampled. scene: the one that will be fitted to them."""

    scene: Scene
    gradient_rms: None = None


def distill(
    model: Prior,
    recipe: AssetRecipe,
    device: str | torch.device | None = None,
    *,
    views: ViewTeacher | None = None,
) -> Iterator[DistillState | ViewsState]:
    """Optimise a new scene for `recipe.prompt`; the last state, at least, is a `DistillState`.

    model: the prior. device: where to compute; where the model is, unless given. views: what knows several views of one
    thing at once, if anything does; `recipe.teacher` says which of the two is asked.
    Raises ModelError where it is the one that is not there.
    """
    device = model.device if device is None else device
    vae = model.codec.vae
    teacher = view_teacher(recipe, views)
    prior = model.denoiser if teacher is None else teacher.denoiser
    with (
        moved(vae, device),
        checkpointed(vae, recipe.checkpointing),
        applied(recipe.memory, device, prior, before=model.encoders) as denoiser,
    ):
        if teacher is not None:
            teacher = replace(teacher, denoiser=denoiser)
        things = things_of(recipe.prompt) if recipe.apart else None
        prompts = (recipe.prompt,) if things is None else things.prompts
        scenes = []
        for number, prompt in enumerate(prompts):
            one = recipe.model_copy(update={"prompt": prompt})
            scenes.append(new_scene(one, device))
            for state in _one_thing(model, one, scenes[-1], denoiser, teacher):
                state = replace(state, step=number * state.total + state.step, total=len(prompts) * state.total)
                if things is not None and state.step == state.total and isinstance(state, DistillState):
                    state = replace(state, scene=Arrangement((scenes[0], scenes[1]), things.relation))
                yield state


def _one_thing(
    model: Prior, recipe: AssetRecipe, scene: Scene, denoiser: Denoiser, teacher: ViewTeacher | None
) -> Iterator[DistillState | ViewsState]:
    if teacher is None:
        yield from _distilled(scene, score_critic(model, recipe, denoiser), recipe)
        return
    assert isinstance(model, ImageModel), "a teacher of several views is built on an image model of the core"
    begun = fitted(model, recipe, teacher, scene) if recipe.fit_steps else ()
    rest = _distilled(scene, view_critic(model, recipe, teacher), recipe, level=True, first=skipped(recipe))
    total = recipe.steps
    if recipe.fit_steps:
        total += recipe.fit_sampling_steps + recipe.fit_steps - skipped(recipe)
    for step, state in enumerate(chain(begun, rest), start=1):
        yield replace(state, step=step, total=total)


def skipped(recipe: AssetRecipe) -> int:
    """The steps of distillation that a fit stands in for."""
    return round(recipe.fit_share * recipe.steps) if recipe.fit_steps else 0


def fitted(
    model: ImageModel, recipe: AssetRecipe, teacher: ViewTeacher, scene: Scene
) -> Iterator[DistillState | ViewsState]:
    """Views are sampled, and `scene` is fitted to them."""
    pictures = None
    for state in sample_ring(model, recipe, teacher):
        if state.step == state.total:
            pictures = pictures_of(model, state.latents)
        yield ViewsState(state.step, state.total, state.latents, state.x0, scene=scene)
    assert pictures is not None, "sampling ends with its last step"
    yield from fit(scene, pictures, recipe)


def _distilled(
    scene: Scene, critic: Critic, recipe: AssetRecipe, *, level: bool = False, first: int = 0
) -> Iterator[DistillState]:
    objective = distillation(critic, recipe, level=level)
    return optimise(scene, objective, steps=recipe.steps, learning_rate=recipe.learning_rate, first=first)


def view_teacher(recipe: AssetRecipe, views: ViewTeacher | None) -> ViewTeacher | None:
    """`views` where the recipe asks it, None where it asks the image model."""
    if recipe.teacher == "views" and views is None:
        raise ModelError(
            f"teacher of {recipe.model}", expected="a model trained on views", got="one that was not",
            hint="kinoform train video --views-share 0.3, or --teacher image",
        )  # fmt: skip
    return None if recipe.teacher == "image" else views


def distillation(critic: Critic, recipe: AssetRecipe, *, level: bool = False) -> Objective:
    """Random views of the scene, judged by `critic`. level: all of a step from one height, evenly around, over one
    grey."""

    def objective(scene: Scene, occupancy: OccupancyGrid, done: float, step: int) -> Judged:
        draw = generator(recipe.seed, 1, step)
        size = recipe.coarse_render_size if done < recipe.coarse_share else recipe.render_size
        count = max(recipe.views, LEAST_TOGETHER) if level else recipe.views
        views = sample_views(count, size, draw, overhead_probability=recipe.overhead_probability, level=level)
        shading = _draw_shading(recipe, done, draw)
        behind = random_grey(1, draw).expand(count, 3) if level and scene.background is None else None
        pixels, rays = render_views(
            scene, views, samples=recipe.samples, shading=shading, occupancy=occupancy, draw=draw,
            device=device_of(scene.field), checkpointing=recipe.checkpointing, behind=behind,
        )  # fmt: skip
        loss, gradient_rms = critic(pixels, views, done, step)
        loss = loss + recipe.opacity_weight * opacity_loss(rays.opacity)
        loss = loss + recipe.orientation_weight * rays.orientation.mean()
        return Judged(loss, gradient_rms, pixels)

    return objective


def _draw_shading(recipe: AssetRecipe, done: float, draw: torch.Generator) -> Shading:
    u = float(torch.rand((), generator=draw))
    if done < recipe.albedo_first:
        return "albedo"
    if u < recipe.lambertian_probability:
        return "lambertian"
    return "textureless" if u < recipe.lambertian_probability + recipe.textureless_probability else "albedo"

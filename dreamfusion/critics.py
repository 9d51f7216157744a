"""What distillation asks about its renders: which way should they change?

Of an image model each view is asked about by itself, with words for where it is seen from (DreamFusion, section 3.2).
Of a model of several views at once (MVDream, Shi et al. 2023) all views of a step are, each with its camera and
the same words: no second face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from dreamfusion.guidance.inversion import inverted_noise
from dreamfusion.guidance.sds import ScoreDistillation, sample_timesteps, score_distillation
from dreamfusion.recipe import AssetRecipe
from dreamfusion.views import Views
from shared.compute.modes import run_alike
from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.guidance import ClassifierFree, guided_by
from shared.diffusion.step_noise import Draw
from shared.models.image_model import ImageModel
from shared.models.pipelines.prior import PipelinePrior
from shared.rng import generator, normal
from shared.view_words import view_prompts, without_view_words

# What a step asks about its renders: (pixels in [-1, 1], views, share of the run done, step) -> a loss to minimise and
# the root mean square of the gradient behind it.
Critic = Callable[[Float[Tensor, "views 3 h w"], Views, float, int], tuple[Float[Tensor, ""], float]]


Prior: TypeAlias = ImageModel | PipelinePrior


@dataclass(frozen=True)
class ViewTeacher:
    """A prior of several views of one thing at once.

    denoiser: of latents "b c t h w", t views, told what `ViewWords` says of each.
    alone: the network that says what its own would of each view if that knew of no other and no camera; of weights that
    are among its own. draw_noise: of shape (c, t, h, w), as it was trained with: views may have some of it in common.
    """

    denoiser: Denoiser
    alone: nn.Module
    draw_noise: Draw

    @cached_property
    def weak(self) -> Denoiser:
        """What it says of each view alone; made once, not in every step of a distillation."""
        return run_alike(self.denoiser, self.alone)

    def guided_by(self, recipe: AssetRecipe, negative: Conditioning, guidance_scale: float) -> Denoiser:
        """With the guidance that a recipe names, at this scale, and away from each view alone by its
        `view_guidance_scale`."""
        scale = recipe.view_guidance_scale
        recipe = recipe.model_copy(update={"guidance_scale": guidance_scale})
        return guided_by(recipe, self.denoiser, negative, weak=None if scale == 1 else self.weak, weak_scale=scale)


class ViewWords:
    """What a teacher is told of several views: views -> (condition, negative).

    Both say of each view its `camera`, azimuth and elevation in degrees, "1 t 2", and its `frame_text`, "1 t n d": the
    prompt with words for where that is; the negative has one for all.
    """

    @torch.no_grad()
    def __init__(self, model: ImageModel, recipe: AssetRecipe) -> None:
        prompts = view_prompts(recipe.prompt)
        self.number = {word: index for index, word in enumerate(prompts)}
        self.words = model.conditions(list(prompts.values())).text
        self.text = model.conditions([without_view_words(recipe.prompt)])
        self.negative = model.conditions([recipe.negative])

    def __call__(self, views: Views) -> tuple[Conditioning, Conditioning]:
        assert self.words is not None, "a prompt is text"
        assert self.negative.text is not None, "a prompt is text"
        seen = self.words[[self.number[word] for word in views.words]][None]
        unseen = self.negative.text[:, None].expand_as(seen)
        camera = torch.tensor([list(zip(views.azimuth, views.elevation, strict=True))]).to(seen.device)
        return (
            self.text.with_frames(camera=camera, frame_text=seen),
            self.negative.with_frames(camera=camera, frame_text=unseen),
        )


@torch.no_grad()
def score_critic(model: Prior, recipe: AssetRecipe, denoiser: Denoiser | None = None) -> Critic:
    """Score distillation from `model`, with view-dependent prompts. denoiser: to use in place of the model's own."""
    prompts = view_prompts(recipe.prompt)
    number = {word: index for index, word in enumerate(prompts)}
    conditioning = model.conditions(list(prompts.values()))
    negative = model.conditions([recipe.negative])
    prior = model.denoiser if denoiser is None else denoiser
    denoiser = guided_by(recipe, prior, negative)

    def criticise(pixels: Tensor, views: Views, done: float, step: int) -> tuple[Tensor, float]:
        latents = encoded(model, pixels)
        count = len(views)
        t_max = most_noise(recipe, done)
        t = sample_timesteps(
            count, model.schedule.num_timesteps, generator(recipe.seed, 2, step), t_min=recipe.t_min, t_max=t_max
        ).to(latents.device)
        which = [number[word] for word in views.words]
        told = conditioning.each(lambda part: part[which])
        drawn = torch.stack([normal(latents.shape[1:], recipe.seed, 3, step, view) for view in range(count)])
        noise = noise_of(recipe, drawn.to(latents), prior, negative, latents, t, told)
        score = score_distillation(denoiser, latents, t, noise, told)
        return mean_loss(score, latents), float(score.gradient.square().mean().sqrt())

    return criticise


@torch.no_grad()
def view_critic(model: ImageModel, recipe: AssetRecipe, teacher: ViewTeacher) -> Critic:
    """Score distillation from a teacher of several views, all of a step at one noise level."""
    words = ViewWords(model, recipe)

    def criticise(pixels: Tensor, views: Views, done: float, step: int) -> tuple[Tensor, float]:
        latents = rearrange(encoded(model, pixels), "t c h w -> 1 c t h w")
        t_max = most_noise(recipe, done)
        draw = generator(recipe.seed, 2, step)
        t = sample_timesteps(1, model.schedule.num_timesteps, draw, t_min=recipe.t_min, t_max=t_max).to(latents.device)
        told, negative = words(views)
        drawn = teacher.draw_noise(tuple(latents.shape[1:]), generator(recipe.seed, 3, step))[None]
        noise = noise_of(recipe, drawn.to(latents), teacher.denoiser, negative, latents, t, told)
        guided = teacher.guided_by(recipe, negative, recipe.guidance_scale)
        score = score_distillation(guided, latents, t, noise, told)
        return mean_loss(score, latents), float(score.gradient.square().mean().sqrt())

    return criticise


def noise_of(
    recipe: AssetRecipe,
    drawn: Float[Tensor, "b ..."],
    prior: Denoiser,
    negative: Conditioning,
    latents: Float[Tensor, "b ..."],
    t: Int[Tensor, " b"],
    told: Conditioning,
) -> Float[Tensor, "b ..."]:
    """What a step adds to renders as latents: `drawn`, or what DDIM inversion finds in them, as the recipe wants it."""
    if recipe.noise != "inverted":
        return drawn
    guided = ClassifierFree(prior, negative, recipe.inversion_guidance_scale)
    return inverted_noise(guided, latents, t, told, steps=recipe.inversion_steps)


def most_noise(recipe: AssetRecipe, done: float) -> float:
    """The most noise after the share `done` of the run, as a share of the schedule."""
    return recipe.t_max + (recipe.t_max_final - recipe.t_max) * done


def encoded(model: Prior, pixels: Float[Tensor, "n 3 _ _"]) -> Float[Tensor, "n c h w"]:
    """Latents of renders in [-1, 1], at the size that the model was trained on."""
    wanted = (model.default_size, model.default_size)
    if pixels.shape[-2:] != wanted:
        pixels = functional.interpolate(pixels, wanted, mode="bilinear", align_corners=False)
    return model.codec.encode(pixels)


def mean_loss(score: ScoreDistillation, x: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Equation 3's loss per element, so that the weights of other losses do not depend on sizes."""
    return score.loss(x) / x.numel()

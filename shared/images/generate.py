"""Pictures from prompts: encode, sample, decode; in the memory that the recipe's policy gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from shared.artifacts.pixels import to_uint8
from shared.compute.execution import execution_device
from shared.compute.modes import applied, placed
from shared.diffusion.conditioning import Conditioning
from shared.diffusion.guidance import guided_by
from shared.diffusion.sampling import SampleState, sample
from shared.diffusion.schedulers import named_scheduler
from shared.diffusion.scored import Scored
from shared.errors import InputError
from shared.images.beside import seen_by
from shared.images.edit import canvas_for, size_for
from shared.images.recipe import ImageRecipe
from shared.images.scored import score_of
from shared.images.sees import check_sees
from shared.latents.decoding import decode
from shared.models.image_model import ImageModel


@dataclass(frozen=True)
class ImageState(SampleState):
    """A `SampleState`; `pixels` in [-1, 1] come with the last one and are None before."""

    pixels: Float[Tensor, "b 3 h w"] | None = None

    @property
    def images(self) -> UInt8[np.ndarray, "b h w 3"] | None:
        """The pixels in eight bits."""
        return None if self.pixels is None else to_uint8(self.pixels)


def generate_image(
    model: ImageModel, recipe: ImageRecipe, device: str | torch.device | None = None
) -> Iterator[ImageState]:
    """The picture of a recipe, as a batch of one; yields after every denoising step. See `generate_images`."""
    return generate_images(model, [recipe.prompt], [recipe.seed], recipe, device)


def generate_images(
    model: ImageModel,
    prompts: list[str],
    seeds: list[int],
    recipe: ImageRecipe,
    device: str | torch.device | None = None,
) -> Iterator[ImageState]:
    """One picture for each prompt and seed, in one batch; yields after every denoising step, last with pixels.

    The recipe gives everything but prompt and seed. device: where to compute; where the model is, unless given.
    Raises InputError for a size that the codec's factor does not divide, naming the nearest that it does, and for lists
    of different lengths; KinoformError when memory does not suffice to decode.
    """
    for state in sample_images(model, prompts, seeds, recipe, device):
        last = state.step == state.total
        pixels = decode_images(model, state.latents, recipe, device) if last else None
        yield ImageState(state.step, state.total, state.latents, state.x0, pixels)


@torch.no_grad()
def sample_images(
    model: ImageModel,
    prompts: list[str],
    seeds: list[int],
    recipe: ImageRecipe,
    device: str | torch.device | None = None,
) -> Iterator[SampleState]:
    """`generate_images` up to the latents, which `decode_images` makes pixels of."""
    if len(prompts) != len(seeds):
        raise InputError("seeds", expected=f"one for each of {len(prompts)} prompts", got=len(seeds))
    check_sees(recipe, model.sees, model.name)
    canvas = canvas_for(model, recipe)
    width, height = canvas.size if canvas else size_for(model, recipe)
    factor = model.codec.factor
    device = execution_device(model.unet) if device is None else device
    begin = None
    if canvas is not None:
        with placed(recipe.memory, device, [model.codec.vae]) as place:
            begin = canvas.picture(model.codec, len(prompts), recipe.share_of_steps, place).to(device)
    seen = seen_by(model, recipe, seeds, (width, height), device)

    def conditions(prompts: list[str]) -> Conditioning:
        return replace(model.conditions(prompts, (width, height)), beside=seen.beside, labels=seen.labels)

    score = score_of(model, recipe, prompts)
    further = None if score is None else partial(Scored, score=score, scale=recipe.clip_guidance or 0.0)
    with applied(recipe.memory, device, model.denoiser, before=model.encoders) as denoiser:
        negative = conditions([recipe.negative] * len(prompts))
        yield from sample(
            guided_by(recipe, denoiser, negative, further=further),
            named_scheduler(recipe.scheduler, model.make_scheduler()),
            shape=(model.codec.latent_channels, height // factor, width // factor),
            seeds=seeds,
            conditioning=conditions(prompts),
            steps=recipe.steps,
            picture=begin,
        )


def decode_images(
    model: ImageModel, latents: Float[Tensor, "b c h w"], recipe: ImageRecipe, device: str | torch.device | None = None
) -> Float[Tensor, "b 3 height width"]:
    """The pixels of latents, in [-1, 1]; what the recipe does not change is as it was.

    Raises KinoformError when memory does not suffice even for small tiles.
    """
    vae = model.codec.vae
    with placed(recipe.memory, execution_device(vae) if device is None else device, [vae]) as place:
        pixels = decode(model.codec, latents.to(place), recipe.memory)
    canvas = canvas_for(model, recipe)
    return pixels if canvas is None else canvas.kept(pixels)

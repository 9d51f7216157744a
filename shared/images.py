"""Pictures from prompts: encode, sample, decode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from shared.errors import InputError
from shared.image_recipe import ImageRecipe
from shared.model import ImageModel
from shared.pixels import to_uint8
from shared.sampling import SampleState, sample


@dataclass(frozen=True)
class ImageState(SampleState):
    """A `SampleState`; `pixels` in [-1, 1] come with the last one and are None before."""

    pixels: Float[Tensor, "b 3 h w"] | None = None

    @property
    def images(self) -> UInt8[np.ndarray, "b h w 3"] | None:
        """The pixels in eight bits."""
        return None if self.pixels is None else to_uint8(self.pixels)


def generate_image(model: ImageModel, recipe: ImageRecipe) -> Iterator[ImageState]:
    """The picture of a recipe, as a batch of one; yields after every denoising step. See `generate_images`."""
    return generate_images(model, [recipe.prompt], [recipe.seed], recipe)


@torch.no_grad()
def generate_images(
    model: ImageModel, prompts: list[str], seeds: list[int], recipe: ImageRecipe
) -> Iterator[ImageState]:
    """One picture for each prompt and seed, in one batch; yields after every denoising step, last with pixels.

    The recipe gives everything but prompt and seed. Raises InputError for a size that the codec's factor does not
    divide, naming the nearest that it does, and for lists of different lengths.
    """
    if len(prompts) != len(seeds):
        raise InputError("seeds", expected=f"one for each of {len(prompts)} prompts", got=len(seeds))
    width, height = picture_size(model, recipe.width, recipe.height)
    factor = model.codec.factor
    states = sample(
        model.denoiser,
        model.make_scheduler(),
        shape=(model.codec.latent_channels, height // factor, width // factor),
        seeds=seeds,
        cond=model.text.encode(prompts),
        uncond=model.text.encode([recipe.negative] * len(prompts)),
        guidance_scale=recipe.guidance_scale,
        rescale=recipe.guidance_rescale,
        steps=recipe.steps,
    )
    for state in states:
        last = state.step == state.total
        yield ImageState(state.step, state.total, state.latents, model.codec.decode(state.latents) if last else None)


def picture_size(model: ImageModel, width: int | None, height: int | None) -> tuple[int, int]:
    """Width and height in pixels, the model's own where None. Raises InputError where the factor does not divide."""
    factor = model.codec.factor
    sizes = (width or model.default_size, height or model.default_size)
    for name, size in zip(("width", "height"), sizes, strict=True):
        if size % factor:
            below = size // factor * factor
            nearest = f"{below} or {below + factor}" if below else f"{factor}"
            raise InputError(name, expected=f"a multiple of {factor} pixels, such as {nearest}", got=size)
    return sizes

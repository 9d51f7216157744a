"""Pictures that a clip begins or ends with, as a recipe names them or as arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from shared.artifacts.media import read_image
from shared.artifacts.pixels import fitted, from_uint8
from shared.errors import InputError
from shared.latents.codec import Codec
from video.frames.known import told
from video.recipe import ClipRecipe

Given = Mapping[int, UInt8[np.ndarray, "_ _ 3"]]


def given_by(recipe: ClipRecipe) -> Given:
    """Pictures by the frames that they are: `image` the first, `last` the last. Raises InputError for no picture."""
    named = {0: recipe.image, recipe.frame_count - 1: recipe.last}
    if recipe.frame_count == 1 and recipe.last is not None:
        raise InputError("frames", expected="2 or more, with --last", got=1)
    return {frame: read_image(path) for frame, path in named.items() if path is not None}


@torch.no_grad()
def known_of(
    codec: Codec, given: Given, *, frames: int, height: int, width: int, device: str | torch.device
) -> Float[Tensor, "1 t k h w"]:
    """`video.frames.known` of pictures of any size: their middle, in the shape of the clip, encoded.

    Raises InputError for a frame that the clip has not.
    """
    for frame in given:
        if not 0 <= frame < frames:
            raise InputError("given frame", expected=f"0 to {frames - 1}", got=frame)
    pixels = np.stack([fitted(picture, width, height) for picture in given.values()])
    latents = codec.encode(from_uint8(pixels).to(device)).float()
    clip = latents.new_zeros(1, latents.shape[1], frames, *latents.shape[2:])
    clip[0, :, list(given)] = latents.transpose(0, 1)
    mask = torch.zeros(1, frames, dtype=torch.bool, device=device)
    mask[0, list(given)] = True
    return told(clip, mask)


def put_back(latents: Float[Tensor, "b c t h w"], known: Float[Tensor, "b t k h w"]) -> Float[Tensor, "b c t h w"]:
    """Latents of a clip whose given frames are what was given."""
    frames, mask = known[:, :, :-1].transpose(1, 2), known[:, :, -1:].transpose(1, 2)
    return torch.where(mask > 0, frames.to(latents), latents)

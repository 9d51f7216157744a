"""A small picture of latents without the decoder: a linear map, for looking at while a model samples.

The map takes each latent with its eight neighbours to a block of SIDE x SIDE pixels. It is fitted by least squares to
the codec's own decode of a few made-up pictures: smooth ones and chequered ones, which the codec encodes itself, so
that the latents are of the kind it knows. With the embedded autoencoder it costs a fortieth of a decode.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from shared.artifacts.pixels import to_uint8
from shared.compute.execution import execution_device
from shared.latents.codec import Codec
from shared.rng import generator

SIDE = 2  # pixels a latent, along each side; one where a latent is one pixel
SEED = 0
PICTURES = 6
LATENTS = 16  # along each side of a picture that the map is fitted to
PATCHES = (2, 4, 8)  # colours along its sides
RIDGE = 1e-4  # added to the mean square of each latent; they are of about unit variance


class LatentPreview:
    """The map of one codec, fitted when it is made: 0.1 s with the embedded autoencoder on one core.

    The codec must be where it can run; nothing is drawn from torch's global generator.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.side = min(SIDE, codec.factor)
        self._weight = _fitted(codec, self.side)

    @torch.no_grad()
    def frames(self, latents: Float[Tensor, "c *t h w"]) -> UInt8[np.ndarray, "t height width 3"]:
        """One picture of an image's latents "c h w", or one for each frame of a clip's "c t h w"; `side` pixels a
        latent. NaN is grey.
        """
        images = rearrange(latents, "c h w -> 1 c h w" if latents.ndim == 3 else "c t h w -> t c h w")
        rgb = _neighbours(images.to("cpu", torch.float32)) @ self._weight
        pixels = rearrange(
            rgb, "t (h w) (c y x) -> t c (h y) (w x)", h=images.shape[-2], c=3, y=self.side, x=self.side
        )  # fmt: skip
        return to_uint8(pixels.nan_to_num(0.0, 1.0, -1.0))


@torch.no_grad()
def _fitted(codec: Codec, side: int) -> Float[Tensor, "features values"]:
    size = LATENTS * codec.factor
    device = execution_device(codec.vae)
    latents = codec.encode(_pictures(size).to(device))
    small = F.avg_pool2d(codec.decode(latents).to("cpu", torch.float64), codec.factor // side)
    wanted = rearrange(small, "b c (h y) (w x) -> (b h w) (c y x)", y=side, x=side)
    known = _neighbours(latents.to("cpu", torch.float64)).flatten(0, 1)
    ridge = RIDGE * len(known) * torch.eye(known.shape[1], dtype=torch.float64)
    return torch.linalg.solve(known.T @ known + ridge, known.T @ wanted).float()


def _pictures(size: int) -> Float[Tensor, "b 3 size size"]:
    """Random colours, by turns running into each other and side by side."""
    made = []
    for index in range(PICTURES):
        patches = PATCHES[index % len(PATCHES)]
        colours = torch.rand(1, 3, patches, patches, generator=generator(SEED, index)) * 2 - 1
        made.append(F.interpolate(colours, (size, size), mode="nearest" if index % 2 else "bilinear"))
    return torch.cat(made)


def _neighbours(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b hw features"]:
    """Each latent with those around it, the border's repeated, and a one."""
    around = F.unfold(F.pad(latents, (1, 1, 1, 1), mode="replicate"), 3)
    return rearrange(F.pad(around, (0, 0, 0, 1), value=1.0), "b features hw -> b hw features")

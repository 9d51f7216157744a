"""Pixels to latents and back.

pixels   red, green, blue in [-1, 1]: images "b 3 h w" or frames "b 3 t h w".
latents  scaled to about unit variance: "b c h/factor w/factor" or "b c t h/factor w/factor".

The scaling factor is applied here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from shared.errors import InputError


class Codec:
    """A diffusers image autoencoder behind two calls.

    slice_size: images (or frames) in one call of the autoencoder, which bounds memory.
    tile_size: side of a decoder tile in latents; None decodes pictures whole. Tiles overlap by a quarter and are
        blended, so that the seams stay below what eight bits show.
    """

    def __init__(
        self, vae: AutoencoderKL | AutoencoderTiny, *, slice_size: int = 16, tile_size: int | None = None
    ) -> None:
        if slice_size < 1:
            raise InputError("slice_size", expected="1 or more", got=slice_size)
        if tile_size is not None and tile_size < 8:
            raise InputError("tile_size", expected="8 or more latents", got=tile_size)
        self.vae = vae
        self.slice_size = slice_size
        self.tile_size = tile_size

    @property
    def factor(self) -> int:
        """Pixels a latent, along each side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def latent_channels(self) -> int:
        return self.vae.config["latent_channels"]

    def encode(self, pixels: Float[Tensor, "b 3 *rest"]) -> Float[Tensor, "b c *rest_latents"]:
        """The mean of the latent distribution, scaled; differentiable. InputError where `factor` does not divide."""
        height, width = pixels.shape[-2:]
        if height % self.factor or width % self.factor:
            raise InputError("picture size", expected=f"multiples of {self.factor}", got=f"{width}x{height}")
        return self._per_image(self._encode_slice, pixels)

    def decode(self, latents: Float[Tensor, "b c *rest_latents"]) -> Float[Tensor, "b 3 *rest"]:
        """Pixels in [-1, 1]; differentiable (not where they were clamped)."""
        return self._per_image(self._decode_slice, latents)

    def _per_image(self, call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if x.ndim == 5:
            images = self._per_image(call, rearrange(x, "b c t h w -> (b t) c h w"))
            return rearrange(images, "(b t) c h w -> b c t h w", b=x.shape[0])
        parts = [call(part.to(self.vae.dtype)) for part in x.split(self.slice_size)]
        return torch.cat(parts).to(x.dtype)

    def _encode_slice(self, pixels: Tensor) -> Tensor:
        encoded = self.vae.encode(pixels)
        z = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return (z - self._shift) * self._scale

    def _decode_slice(self, latents: Tensor) -> Tensor:
        z = latents / self._scale + self._shift
        if self.tile_size is None or max(z.shape[-2:]) <= self.tile_size:
            return self._decoder(z).clamp(-1, 1)
        return self._decode_tiled(z, self.tile_size).clamp(-1, 1)

    def _decode_tiled(self, z: Tensor, tile: int) -> Tensor:
        """Weighted mean of overlapping tiles."""
        factor, overlap = self.factor, tile // 4
        height, width = z.shape[-2:]
        total = z.new_zeros(())
        weight = z.new_zeros(())
        for top, left in product(_starts(height, tile, overlap), _starts(width, tile, overlap)):
            part = self._decoder(z[..., top : top + tile, left : left + tile])
            rows = _weights(top, part.shape[-2] // factor, height, overlap).repeat_interleave(factor)
            columns = _weights(left, part.shape[-1] // factor, width, overlap).repeat_interleave(factor)
            mask = (rows[:, None] * columns[None, :]).to(part)
            # pad, not in-place writes, keeps this differentiable
            y, x = top * factor, left * factor
            around = (x, width * factor - x - part.shape[-1], y, height * factor - y - part.shape[-2])
            total = total + torch.nn.functional.pad(part * mask, around)
            weight = weight + torch.nn.functional.pad(mask.expand_as(part), around)
        return total / weight

    def _decoder(self, z: Tensor) -> Tensor:
        return self.vae.decode(z).sample

    @property
    def _scale(self) -> float:
        return self.vae.config["scaling_factor"]

    @property
    def _shift(self) -> float:
        return self.vae.config.get("shift_factor") or 0.0


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin so that they overlap by at least `overlap` and the last ends at `length`."""
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def _weights(start: int, side: int, length: int, overlap: int) -> Tensor:
    """Weights of a tile's latents along one axis: 1, except towards a neighbour. There they fall to 0 over the middle
    of the overlap; its outer quarter is not used at all, since what is beyond the tile would show in it."""
    margin = overlap // 4
    ramp = (torch.arange(side, dtype=torch.float32) + 0.5 - margin) / (overlap - 2 * margin)
    up = ramp if start > 0 else torch.ones(side)
    down = ramp.flip(0) if start + side < length else torch.ones(side)
    return torch.minimum(up, down).clamp(0, 1)

"""Pixels to latents and back.

pixels   red, green, blue in [-1, 1]: images "b 3 h w" or frames "b 3 t h w".
latents  scaled to about unit variance: "b c h/factor w/factor" or "b c t h/factor w/factor".

The scaling factor is applied here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from shared.errors import InputError
from shared.tiles import SMALLEST_TILE, decode_by_tiles


class Codec:
    """A diffusers image autoencoder behind two calls.

    slice_size: images (or frames) in one call of the autoencoder, which bounds memory.
    tile_size: side of a decoder tile in latents; None decodes pictures whole. Tiles overlap and are blended, so that
        the seams stay below what eight bits show (`shared.tiles`).
    """

    def __init__(
        self, vae: AutoencoderKL | AutoencoderTiny, *, slice_size: int = 16, tile_size: int | None = None
    ) -> None:
        if slice_size < 1:
            raise InputError("slice_size", expected="1 or more", got=slice_size)
        if tile_size is not None and tile_size < SMALLEST_TILE:
            raise InputError("tile_size", expected=f"{SMALLEST_TILE} or more latents", got=tile_size)
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
            return self.vae.decode(z).sample.clamp(-1, 1)
        return self._decode_tiled(z, self.tile_size).clamp(-1, 1)

    def _decode_tiled(self, z: Tensor, tile: int) -> Tensor:
        """What has few positions and sees all of them (the first layers and attention of an AutoencoderKL) whole, the
        rest by tiles."""
        if hasattr(self.vae, "_hf_hook"):  # diffusers' own `decode` asks for the weights so, where they are offloaded
            self.vae._hf_hook.pre_forward(self.vae)
        network: nn.Module = self.vae.decoder
        if isinstance(self.vae, AutoencoderKL):
            if self.vae.post_quant_conv is not None:
                z = self.vae.post_quant_conv(z)
            z = self.vae.decoder.mid_block(self.vae.decoder.conv_in(z))
            network = nn.Sequential(
                *self.vae.decoder.up_blocks,
                self.vae.decoder.conv_norm_out,
                self.vae.decoder.conv_act,
                self.vae.decoder.conv_out,
            )
        norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
        return decode_by_tiles(network, z, tile=tile, factor=self.factor, norms=norms)

    @property
    def _scale(self) -> float:
        return self.vae.config["scaling_factor"]

    @property
    def _shift(self) -> float:
        return self.vae.config.get("shift_factor") or 0.0

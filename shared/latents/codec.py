"""Pixels to latents and back.

pixels   red, green, blue in [-1, 1]: images "b 3 h w" or frames "b 3 t h w".
latents  scaled to about unit variance: "b c h/factor w/factor" or "b c t h/factor w/factor".

The scaling factor is applied here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, AutoencoderTiny
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from shared.errors import InputError
from shared.latents.sizes import check_size
from shared.latents.tiles import SMALLEST_TILE, decode_by_tiles

Autoencoder: TypeAlias = AutoencoderKL | AutoencoderTiny | AutoencoderKLTemporalDecoder


class Codec:
    """A diffusers image autoencoder behind two calls. Its decoder may look across frames (`sees_frames`).

    slice_size: images (or frames) in one call of the autoencoder, which bounds memory; a decoder that looks across
        frames always gets a whole clip.
    tile_size: side of a decoder tile in latents; None decodes pictures whole. Tiles overlap and are blended, so that
        the seams stay below what eight bits show (`shared.latents.tiles`).
    """

    def __init__(self, vae: Autoencoder, *, slice_size: int = 16, tile_size: int | None = None) -> None:
        if slice_size < 1:
            raise InputError("slice_size", expected="1 or more", got=slice_size)
        if tile_size is not None and tile_size < SMALLEST_TILE:
            raise InputError("tile_size", expected=f"{SMALLEST_TILE} or more latents", got=tile_size)
        self.vae = vae
        self.slice_size = slice_size
        self.tile_size = tile_size

    @property
    def sees_frames(self) -> bool:
        """Whether the decoder looks across the frames of a clip (Blattmann et al. 2023, section 3.1.1)."""
        return isinstance(self.vae, AutoencoderKLTemporalDecoder)

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
        check_size(width, height, self.factor)
        return self._per_image(self._encode_slice, pixels)

    def decode(self, latents: Float[Tensor, "b c *rest_latents"]) -> Float[Tensor, "b 3 *rest"]:
        """Pixels in [-1, 1]; differentiable (not where they were clamped)."""
        if latents.ndim == 5 and self.sees_frames:
            return torch.stack([self._decode_clip(clip) for clip in latents])
        return self._per_image(self._decode_slice, latents)

    def _decode_clip(self, latents: Float[Tensor, "c t h w"]) -> Float[Tensor, "3 t height width"]:
        frames = rearrange(latents, "c t h w -> t c h w").to(self.vae.dtype)
        return rearrange(self._decode_slice(frames, len(frames)), "t c h w -> c t h w").to(latents.dtype)

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

    def _decode_slice(self, latents: Tensor, frames: int = 1) -> Tensor:
        """frames: how many pictures make a clip; for a decoder that looks across them."""
        z = latents / self._scale + self._shift
        if self.tile_size is not None and max(z.shape[-2:]) > self.tile_size:
            return self._decode_tiled(z, self.tile_size, frames).clamp(-1, 1)
        clip = {"num_frames": frames} if self.sees_frames else {}
        return self.vae.decode(z, **clip).sample.clamp(-1, 1)

    def _decode_tiled(self, z: Tensor, tile: int, frames: int) -> Tensor:
        """What has few positions and sees all of them (the first layers and attention of an AutoencoderKL) whole, the
        rest by tiles."""
        if hasattr(self.vae, "_hf_hook"):  # diffusers' own `decode` asks for the weights so, where they are offloaded
            self.vae._hf_hook.pre_forward(self.vae)
        network: nn.Module = self.vae.decoder
        if isinstance(self.vae, AutoencoderKLTemporalDecoder):
            network = UpperTemporalDecoder(self.vae.decoder, frames)
            z = self.vae.decoder.mid_block(self.vae.decoder.conv_in(z), network.indicator(z))
        elif isinstance(self.vae, AutoencoderKL):
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


class UpperTemporalDecoder(nn.Module):
    """What follows the middle block of diffusers' temporal decoder, for pictures that are clips of `frames`."""

    def __init__(self, decoder: nn.Module, frames: int) -> None:
        super().__init__()
        self.decoder: Any = decoder
        self.frames = frames

    def indicator(self, x: Float[Tensor, "bt c h w"]) -> Float[Tensor, "b {self.frames}"]:
        """diffusers' mark of pictures that are no clips: none is."""
        return x.new_zeros(len(x) // self.frames, self.frames)

    def forward(self, x: Float[Tensor, "bt c h w"]) -> Float[Tensor, "bt 3 height width"]:
        decoder = self.decoder
        for block in decoder.up_blocks:
            x = block(x, image_only_indicator=self.indicator(x))
        x = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))
        clips = decoder.time_conv_out(rearrange(x, "(b t) c h w -> b c t h w", t=self.frames))
        return rearrange(clips, "b c t h w -> (b t) c h w")

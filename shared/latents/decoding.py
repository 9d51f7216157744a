"""Latents to pixels within the memory there is: all at once, a few pictures at a time, or by tiles.

A decode that runs out of memory goes on with a smaller one: fewer pictures, then one, then tiles of it, ever smaller.
Pictures that are done stay done. Slices change a picture by rounding alone, tiles by less than one of 255 levels. A
decoder that looks across frames decodes clips in place of pictures: all frames of a clip at once, or of a tile of it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from shared.compute.modes import decode_dtype
from shared.compute.policy import MemoryPolicy
from shared.errors import KinoformError
from shared.latents.codec import Codec

TILES = (64, 32, 24)  # sides in latents
PICTURES = 16  # decoded at once where nothing is asked for, and
PIXELS = 2**20  # no more pixels than these
CLIP_PIXELS = 2**22  # of all frames of a clip that are decoded at once, unless it is asked for


@dataclass(frozen=True)
class Attempt:
    """One way to decode: `count` pictures or clips at once, whole (tile None) or by tiles of that side in latents."""

    count: int
    tile: int | None = None
    what: str = "picture"

    def __str__(self) -> str:
        many = f"one {self.what}" if self.count == 1 else f"{self.count} {self.what}s"
        return f"{many} at a time" + (f", by tiles of {self.tile} latents" if self.tile else "")


@dataclass(frozen=True)
class Decoded:
    """Pixels of a few pictures, or of all frames of a few clips, in order, in [-1, 1], and how they were decoded."""

    pixels: Float[Tensor, "n 3 h w"]
    attempt: Attempt


def attempts(policy: MemoryPolicy, count: int, height: int, width: int, factor: int) -> list[Attempt]:
    """The ways to decode `count` pictures of height by width latents, each with less memory than the one before."""
    usual = policy.decode_frames or max(1, min(PICTURES, PIXELS // (height * width * factor**2)))
    usual = min(usual, count)
    wholes = {"auto": [usual, 1], "whole": [count, usual, 1], "sliced": [usual, 1], "tiled": []}[policy.decode]
    tiled = [Attempt(1, tile) for tile in TILES if tile < max(height, width)]
    found = [Attempt(pictures) for pictures in dict.fromkeys(wholes)] + tiled
    return found or [Attempt(1)]  # no picture is too small to be asked for by tiles


def clip_attempts(policy: MemoryPolicy, frames: int, height: int, width: int, factor: int) -> list[Attempt]:
    """The same for clips that a decoder looks at as one: whole where their frames are few and small, or by tiles."""
    fits = frames * height * width * factor**2 <= CLIP_PIXELS
    whole = [Attempt(1, what="clip")] if policy.decode == "whole" or (fits and policy.decode != "tiled") else []
    tiled = [Attempt(1, tile, "clip") for tile in TILES if tile < max(height, width)]
    return whole + tiled or [Attempt(1, what="clip")]


def decode_by_parts(codec: Codec, latents: Float[Tensor, "n c *t h w"], policy: MemoryPolicy) -> Iterator[Decoded]:
    """Pictures of `latents`, those of images or of all frames of all clips, a few at a time, in order.

    Raises KinoformError when even the smallest way to decode takes more memory than there is.
    """
    height, width = latents.shape[-2:]
    if latents.ndim == 5 and codec.sees_frames:
        ways = clip_attempts(policy, latents.shape[2], height, width, codec.factor)
    else:
        latents = latents if latents.ndim == 4 else rearrange(latents, "b c t h w -> (b t) c h w")
        ways = attempts(policy, len(latents), height, width, codec.factor)
    done = 0
    for way in ways:
        out_of_memory = None
        while done < len(latents) and out_of_memory is None:
            try:
                pixels = _decode(codec, latents[done : done + way.count], way, policy)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                out_of_memory = str(error)  # the error itself would keep what was allocated alive
                continue
            done += way.count
            yield Decoded(pixels, way)
        if out_of_memory is None:
            return
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    raise KinoformError(
        f"decoding pictures of {width * codec.factor}x{height * codec.factor}: out of memory, even {ways[-1]}",
        hint="Make smaller pictures, or free some memory",
    )


def decode(codec: Codec, latents: Float[Tensor, "b c *rest"], policy: MemoryPolicy) -> Float[Tensor, "b 3 *pixels"]:
    """All pixels of images "b c h w" or frames "b c t h w", in [-1, 1]. Raises what `decode_by_parts` does."""
    pixels = torch.cat([part.pixels for part in decode_by_parts(codec, latents, policy)])
    return pixels if latents.ndim == 4 else rearrange(pixels, "(b t) c h w -> b c t h w", b=len(latents))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch's means that memory ran out; on the CPU only its words tell."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _decode(codec: Codec, latents: Tensor, way: Attempt, policy: MemoryPolicy) -> Tensor:
    dtype = decode_dtype(policy, latents.device, codec.vae)
    with torch.no_grad(), torch.autocast(latents.device.type, dtype, enabled=dtype is not torch.float32):
        pixels = Codec(codec.vae, slice_size=way.count, tile_size=way.tile).decode(latents)
        return pixels if pixels.ndim == 4 else rearrange(pixels, "b c t h w -> (b t) c h w")

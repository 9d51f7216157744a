"""Pixels of the networks, in [-1, 1] with channels first, and pixels of files, uint8 in 0..255 with channels last."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from shared.errors import KinoformError


def to_uint8(pixels: Float[Tensor, "*batch c h w"]) -> UInt8[np.ndarray, "*batch h w c"]:
    """round(255 (x + 1) / 2), clamped to 0..255.

    NaN and infinity are a KinoformError: they mean that the network failed, and would become plausible-looking black.
    """
    wrong = int((~torch.isfinite(pixels)).sum())
    if wrong:
        raise KinoformError("pixels", expected="finite numbers", got=f"{wrong} NaN or infinite of {pixels.numel()}")
    levels = pixels.detach().to("cpu", torch.float32).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.movedim(-3, -1).numpy())


def from_uint8(levels: UInt8[np.ndarray, "*batch h w c"]) -> Float[Tensor, "*batch c h w"]:
    """The inverse of `to_uint8`, exactly: to_uint8(from_uint8(x)) == x. float32 on the CPU."""
    return torch.from_numpy(np.array(levels)).movedim(-1, -3).to(torch.float32).div(127.5).sub(1).contiguous()


def fitted(picture: UInt8[np.ndarray, "_ _ 3"], width: int, height: int) -> UInt8[np.ndarray, "height width 3"]:
    """The middle of a picture in another size and shape."""
    if picture.shape[:2] == (height, width):
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS))

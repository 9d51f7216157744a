"""xformers' memory-efficient attention (Lefaudeux et al. 2022), where it or `mslk`, its successor, is installed.

The one file that imports either. Both are optional, and for CUDA only.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.attention.kernels.packages import installed
from shared.attention.masks import safe_bias
from shared.attention.request import Request

MODULES = ("mslk.attention.fmha", "xformers.ops")
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
ALIGNMENT = 8  # the mask's rows must start at multiples of so many numbers


def why_not(request: Request) -> str | None:
    """Why these kernels cannot run a request, or None."""
    if not any(installed(name.partition(".")[0]) for name in MODULES):
        return "neither xformers nor mslk is installed"
    if request.device.type != "cuda":
        return f"needs a CUDA device, not {request.device}"
    if request.dtype not in DTYPES:
        return f"does not know {request.dtype}"
    return "no gradient for the mask" if request.mask_gradient else None


def attend_xformers(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads m d"],
    v: Float[Tensor, "b heads m e"],
    *,
    mask: Shaped[Tensor, "#b #heads #n #m"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b heads n e"]:
    """See `shared.attention.attend`."""
    rows = (x.transpose(1, 2) for x in (q, k, v))
    if mask is None:
        return _kernels().memory_efficient_attention(*rows, scale=scale).transpose(1, 2)
    bias, empty = safe_bias(mask, q.dtype)
    bias = _aligned(bias.expand(*q.shape[:3], k.shape[2]))
    out = _kernels().memory_efficient_attention(*rows, attn_bias=bias, scale=scale).transpose(1, 2)
    return out.masked_fill(empty, 0.0)


def _aligned(bias: Float[Tensor, "b heads n m"]) -> Float[Tensor, "b heads n m"]:
    """A copy whose rows start at aligned addresses."""
    length = bias.shape[-1]
    padded = bias.new_empty((*bias.shape[:3], -(-length // ALIGNMENT) * ALIGNMENT))
    return padded[..., :length].copy_(bias)


@cache
def _kernels() -> Any:
    for name in MODULES:
        if installed(name.partition(".")[0]):
            return import_module(name)
    raise ImportError("neither xformers nor mslk is installed")

"""FlashAttention's own package (Dao et al. 2022, 2023; Shah et al. 2024), version 3 or else 2, where it is installed.

The one file that imports either. They know no masks; torch's fused kernels (`attend_sdpa`) contain version 2 as well,
so what these packages add is version 3 on Hopper, and larger head sizes.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.attention.kernels.packages import installed
from shared.attention.request import Request

VERSION_3, VERSION_2 = "flash_attn_interface", "flash_attn"
MAX_DIM = 256
HOPPER, AMPERE = (9, 0), (8, 0)


def why_not(request: Request) -> str | None:
    """Why this kernel cannot run a request, or None."""
    if not (installed(VERSION_3) or installed(VERSION_2)):
        return "flash-attn is not installed"
    if request.device.type != "cuda":
        return f"needs a CUDA device, not {request.device}"
    if request.dtype not in (torch.float16, torch.bfloat16):
        return f"does not know {request.dtype}"
    if request.mask:
        return "knows no masks"
    if request.dim > MAX_DIM or request.dim_v != request.dim:
        return f"heads of at most {MAX_DIM} channels, as many in v as in q"
    capability = torch.cuda.get_device_capability(request.device)
    return None if module_for(capability) else f"no kernel for compute capability {capability}"


def module_for(capability: tuple[int, int]) -> str | None:
    """The package whose kernels run on a device: version 3 is for Hopper alone, version 2 for Ampere and later."""
    if capability[0] == HOPPER[0] and installed(VERSION_3):
        return VERSION_3
    return VERSION_2 if capability >= AMPERE and installed(VERSION_2) else None


def attend_flash(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads m d"],
    v: Float[Tensor, "b heads m d"],
    *,
    mask: Shaped[Tensor, "#b #heads #n #m"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b heads n d"]:
    """See `shared.attention.attend`; without a mask."""
    assert mask is None, "why_not says so"
    name = module_for(torch.cuda.get_device_capability(q.device))
    assert name is not None, "why_not says so"
    out = _module(name).flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v)), softmax_scale=scale)
    out = out[0] if isinstance(out, tuple) else out  # early releases of version 3 return the log-sum-exp too
    return out.transpose(1, 2)


@cache
def _module(name: str) -> Any:
    return import_module(name)

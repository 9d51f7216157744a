"""The kernel for attention over frames: Triton's on a CUDA device, batched products on views elsewhere."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.attention.kernels.packages import installed
from shared.attention.kernels.temporal_cpu import attend_frames_cpu
from shared.attention.request import Request

MAX_FRAMES, MAX_DIM = 64, 256  # of the Triton kernel, which holds all frames of a problem at once
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def why_not(request: Request) -> str | None:
    """Why this kernel cannot run a request, or None."""
    if request.positions is None:
        return "attends over frames only (attend_frames)"
    if request.device.type != "cuda":
        return None
    if not installed("triton"):
        return "triton is not installed"
    if request.dtype not in DTYPES:
        return f"does not know {request.dtype}"
    if max(request.queries, request.keys) > MAX_FRAMES:
        return f"at most {MAX_FRAMES} frames"
    return f"at most {MAX_DIM} channels a head" if max(request.dim, request.dim_v) > MAX_DIM else None


def attend_frames_temporal(
    q: Float[Tensor, "b t s heads d"],
    k: Float[Tensor, "b u s heads d"],
    v: Float[Tensor, "b u s heads e"],
    *,
    mask: Shaped[Tensor, "#b #heads #t #u"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b t s heads e"]:
    """See `shared.attention.attend_frames`."""
    if q.device.type != "cuda":
        return attend_frames_cpu(q, k, v, mask=mask, scale=scale)
    from shared.attention.kernels.temporal_triton import attend_frames_triton

    return attend_frames_triton(q, k, v, mask=mask, scale=scale)

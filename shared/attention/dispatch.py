"""`attend` and `attend_frames`: the two attention calls of the project, and the choice of their kernel.

b  batch, n  queries, m  keys, d  channels a head; t  frames, s  positions of a frame.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.attention.backends import BACKENDS, BY_NAME, EAGER_SCORES, Backend, sdpa_is_fused
from shared.attention.kernels.flash import VERSION_3, module_for
from shared.attention.request import Request, request_of
from shared.errors import InputError

# Measured on a CPU with AVX-512 and native bfloat16, one thread, 16 to 1,024 tokens, forward and backward:
# above these n x m the fused kernel is faster.
CPU_EAGER_HALF, CPU_EAGER_SINGLE = 256 * 256, 128 * 64


def attend(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads m d"],
    v: Float[Tensor, "b heads m e"],
    *,
    mask: Shaped[Tensor, "#b #heads #n #m"] | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Float[Tensor, "b heads n e"]:
    """softmax(scale q k^T + mask) v, as `attend_reference` defines it, in q's dtype.

    mask: boolean (True attends) or to be added; broadcast to "b heads n m". A query without any key gives 0.
        An empty batch, or no keys at all, is no error.
    scale: 1/sqrt(d) unless given.
    backend: "auto" or one of BACKENDS; one that is asked for and cannot run is an error. `choose` tells what "auto"
        runs, `explain` why. Inputs beyond a kernel's limits are split along the batch, which changes no number.

    Raises InputError for an unknown or unfit backend, and for shapes, dtypes or devices that do not go together.
    """
    return attend_and_tell(q, k, v, mask=mask, scale=scale, backend=backend)[0]


def attend_and_tell(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, scale: float | None, backend: str
) -> tuple[Tensor, str]:
    """`attend`, and the name of the backend that ran."""
    request = request_of(q, k, v, mask)
    if request.positions is not None:
        raise InputError("attend", expected="q, k and v of shape b heads n d", got=[tuple(x.shape) for x in (q, k, v)])
    kernel = _backend(request, backend)
    if request.is_empty:
        return _nothing(q, k, v, mask), kernel.name
    assert kernel.attend is not None, "why_not says so"
    return _in_parts(kernel.attend, q, k, v, mask, scale, kernel.rows_at_once(request)), kernel.name


def attend_frames(
    q: Float[Tensor, "b t s heads d"],
    k: Float[Tensor, "b u s heads d"],
    v: Float[Tensor, "b u s heads e"],
    *,
    mask: Shaped[Tensor, "#b #heads #t #u"] | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Float[Tensor, "b t s heads e"]:
    """`attend` over the frames t, for each of the s positions by itself. The mask is the same for all positions.

    Raises InputError as `attend` does.
    """
    request = request_of(q, k, v, mask)
    if request.positions is None:
        raise InputError("attend_frames", expected="b t s heads d", got=[tuple(x.shape) for x in (q, k, v)])
    kernel = _backend(request, backend)
    if request.is_empty:
        return _nothing(q, k, v, mask)
    if kernel.attend_frames is not None:
        return kernel.attend_frames(q, k, v, mask=mask, scale=scale)
    assert kernel.attend is not None, "every backend has one of the two"
    rows = [rearrange(x, "b t s heads d -> (b s) heads t d") for x in (q, k, v)]
    if mask is not None and mask.shape[0] > 1:
        mask = mask.repeat_interleave(request.positions, dim=0)
    out = _in_parts(kernel.attend, rows[0], rows[1], rows[2], mask, scale, kernel.rows_at_once(request))
    return rearrange(out, "(b s) heads t d -> b t s heads d", s=request.positions)


def choose(request: Request) -> str:
    """The backend that "auto" runs. It never fails where a slower one would work."""
    if request.positions is not None and BY_NAME["temporal"].why_not(request) is None:
        return "temporal"
    if request.device.type == "cpu":
        half = request.dtype == torch.bfloat16  # scores of float16 are held in single precision
        if request.queries * request.keys <= (CPU_EAGER_HALF if half else CPU_EAGER_SINGLE):
            return "eager"
    elif _has_flash_3(request):
        return "flash"  # torch's own is version 2
    return "chunked" if not sdpa_is_fused(request) and request.scores > EAGER_SCORES else "sdpa"


def _has_flash_3(request: Request) -> bool:
    if BY_NAME["flash"].why_not(request) is not None:
        return False
    return module_for(torch.cuda.get_device_capability(request.device)) == VERSION_3


def _backend(request: Request, name: str) -> Backend:
    if name == "auto":
        return BY_NAME[choose(request)]
    if name not in BY_NAME:
        raise InputError("attention backend", expected=", ".join(("auto", *BACKENDS)), got=name)
    why_not = BY_NAME[name].why_not(request)
    if why_not is not None:
        raise InputError(
            f"attention backend {name}", expected="one that can run here", got=why_not, hint="auto picks one"
        )
    return BY_NAME[name]


def _nothing(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The output where there is nothing to compute: 0, of which all inputs have the gradient 0. For any layout."""
    zero = q[..., :0].sum(-1, keepdim=True)
    for other in (k, v) if mask is None or mask.dtype == torch.bool else (k, v, mask):
        zero = zero + other[..., :0].sum().to(q.dtype)
    return zero.expand(*q.shape[:-1], v.shape[-1]).contiguous()


def _in_parts(
    kernel: Callable[..., Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scale: float | None,
    rows: int,
) -> Tensor:
    """Run `kernel` on at most `rows` of batch x heads at a time: on parts of the batch, then of the heads."""
    b, heads = q.shape[:2]
    if b * heads <= max(rows, 1):
        return kernel(q, k, v, mask=mask, scale=scale)
    dim, step = (0, max(1, rows // heads)) if b > 1 else (1, rows)
    masks = itertools.repeat(mask) if mask is None or mask.shape[dim] == 1 else mask.split(step, dim)
    parts = zip(q.split(step, dim), k.split(step, dim), v.split(step, dim), masks)  # noqa: B905 (one may be endless)
    return torch.cat([_in_parts(kernel, *part, scale, rows) for part in parts], dim)

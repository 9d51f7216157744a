"""`attend`: the one attention call of the project, and the choice of its kernel.

b  batch, n  queries, m  keys, d  channels a head; t  frames, s  positions of a frame.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.attention.chunked import KEYS, SCORES, attend_chunked
from shared.attention.kernels import attend_eager, attend_sdpa
from shared.attention.reference import attend_reference
from shared.errors import InputError

BACKENDS = ("reference", "eager", "sdpa", "chunked")
GRID_LIMIT = 65_535  # batch x heads in one launch: the y and z limit of a CUDA grid
EAGER_SCORES = 2**26  # scores that the eager form holds at once

# Measured on a CPU with AVX-512 and native bfloat16, one thread, 16 to 1,024 tokens, forward and backward:
# above these n x m the fused kernel is faster.
CPU_EAGER_HALF, CPU_EAGER_SINGLE = 256 * 256, 128 * 64


class Explanation(NamedTuple):
    """What `explain` says about one backend."""

    backend: str
    usable: bool
    why: str


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
    scale: 1/sqrt(d) unless given.
    backend: "auto" or one of BACKENDS. `choose` tells what "auto" runs. Inputs beyond a kernel's limits are split
        along the batch, which changes no number.

    Raises InputError for an unknown backend, and for shapes, dtypes or devices that do not go together.
    """
    _check(q, k, v, mask, backend)
    if backend == "auto":
        backend = choose(q.shape[2], k.shape[2], device=q.device, dtype=q.dtype)
    if backend == "reference":
        return attend_reference(q, k, v, mask=mask, scale=scale)
    if backend == "sdpa":
        return _in_parts(attend_sdpa, q, k, v, mask, scale, GRID_LIMIT)
    if backend == "chunked":
        return _in_parts(attend_chunked, q, k, v, mask, scale, SCORES // KEYS)
    rows = max(1, EAGER_SCORES // max(1, q.shape[2] * k.shape[2]))
    return _in_parts(attend_eager, q, k, v, mask, scale, rows)


def attend_frames(
    q: Float[Tensor, "b t s heads d"],
    k: Float[Tensor, "b u s heads d"],
    v: Float[Tensor, "b u s heads e"],
    *,
    mask: Shaped[Tensor, "#b #heads #t #u"] | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Float[Tensor, "b t s heads e"]:
    """`attend` over the frames t, for each of the s positions by itself. The mask is the same for all positions."""
    if q.ndim != 5 or k.ndim != 5 or v.ndim != 5:
        raise InputError("attend_frames", expected="b t s heads d", got=[tuple(x.shape) for x in (q, k, v)])
    positions = q.shape[2]
    rows = (rearrange(x, "b t s heads d -> (b s) heads t d") for x in (q, k, v))
    if mask is not None and mask.shape[0] > 1:
        mask = mask.repeat_interleave(positions, dim=0)
    out = attend(*rows, mask=mask, scale=scale, backend=backend)
    return rearrange(out, "(b s) heads t d -> b t s heads d", s=positions)


def choose(queries: int, keys: int, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> str:
    """The backend that "auto" runs: the fused kernel, or the eager form for short sequences on a CPU."""
    limit = CPU_EAGER_HALF if dtype in (torch.bfloat16, torch.float16) else CPU_EAGER_SINGLE
    return "eager" if torch.device(device).type == "cpu" and queries * keys <= limit else "sdpa"


def explain(
    queries: int = 256,
    keys: int | None = None,
    *,
    batch_heads: int = 64,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[Explanation]:
    """For each backend whether it can run on such inputs, and why (not), or why "auto" takes it.

    keys: as many as queries unless given. batch_heads: batch times heads.
    """
    keys = queries if keys is None else keys
    chosen = choose(queries, keys, device=device, dtype=dtype)
    kind = torch.device(device).type
    missing = kind == "cuda" and not torch.cuda.is_available()
    what = {
        "reference": f"plain torch in float32, holds {batch_heads * queries * keys:,} scores",
        "eager": f"two products around a softmax, holds {min(batch_heads * queries * keys, EAGER_SCORES):,} scores",
        "sdpa": f"torch's fused kernels, {-(-batch_heads // GRID_LIMIT)} launch(es)",
        "chunked": f"plain torch, forward and backward, holds {min(batch_heads * queries * keys, SCORES):,} scores",
    }
    reasons = {
        "eager": f"auto takes it: fastest on a CPU at {queries} x {keys} in {str(dtype).removeprefix('torch.')}",
        "sdpa": f"auto takes it: least memory and fastest at {queries} x {keys} on {kind}",
    }
    return [
        Explanation(name, False, "this torch sees no CUDA device")
        if missing
        else Explanation(name, True, f"{what[name]}; {reasons[name]}" if name == chosen else what[name])
        for name in BACKENDS
    ]


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, backend: str) -> None:
    if backend != "auto" and backend not in BACKENDS:
        raise InputError("attention backend", expected=", ".join(("auto", *BACKENDS)), got=backend)
    shapes = [tuple(x.shape) for x in (q, k, v)]
    if any(len(shape) != 4 for shape in shapes):
        raise InputError("attend", expected="q, k and v of shape b heads n d", got=shapes)
    (b, heads, n, d), (_, _, m, _), (_, _, _, e) = shapes
    if shapes != [(b, heads, n, d), (b, heads, m, d), (b, heads, m, e)]:
        raise InputError("attend", expected="the same b, heads and d, and as many values as keys", got=shapes)
    for what in ("dtype", "device"):
        kinds = {getattr(x, what) for x in (q, k, v)}
        if len(kinds) > 1:
            raise InputError(f"attend: {what} of q, k and v", expected="one", got=sorted(map(str, kinds)))
    if mask is not None:
        full = (b, heads, n, m)
        if mask.ndim != 4 or any(have not in (1, want) for have, want in zip(mask.shape, full, strict=True)):
            raise InputError("attend: mask", expected=f"a shape that broadcasts to {full}", got=tuple(mask.shape))


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

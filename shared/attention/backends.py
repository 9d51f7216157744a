"""The backends of `attend`, one line each: what runs, what it cannot do, what it holds in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.attention.kernels import chunked, temporal
from shared.attention.kernels import flash as flash_kernel
from shared.attention.kernels import xformers as xformers_kernel
from shared.attention.kernels.reference import attend_frames_reference, attend_reference
from shared.attention.kernels.torch_kernels import attend_eager, attend_sdpa, scores_dtype
from shared.attention.request import Request

GRID_LIMIT = 65_535  # rows in one launch: the y and z limit of a CUDA grid
EAGER_SCORES = 2**26  # scores that the eager form holds at once


@dataclass(frozen=True)
class Backend:
    """attend: the kernel on "b heads n d". attend_frames: its own form for "b t s heads d", where it has one; other
    backends see positions as samples. why_not: why it cannot run a request, or None. rows_at_once: rows that one call
    may have. bytes: what the forward pass holds beside q, k and v, its output included.
    """

    name: str
    what: str
    attend: Callable[..., Tensor] | None
    attend_frames: Callable[..., Tensor] | None
    why_not: Callable[[Request], str | None]
    rows_at_once: Callable[[Request], int]
    bytes: Callable[[Request], int]


def _anything(request: Request) -> None:
    return None


def _all_rows(request: Request) -> int:
    return max(1, request.rows)


def _grid(request: Request) -> int:
    return GRID_LIMIT


def _eager_rows(request: Request) -> int:
    return max(1, EAGER_SCORES // max(1, request.queries * request.keys))


def _chunked_rows(request: Request) -> int:
    return chunked.SCORES // chunked.KEYS


def _size(request: Request) -> int:
    """Bytes of a number in single precision at least."""
    return torch.promote_types(request.dtype, torch.float32).itemsize


def _reference_bytes(request: Request) -> int:
    copies = 0 if _size(request) == request.dtype.itemsize else 2 * request.input_bytes + request.output_bytes
    return 4 * request.scores * _size(request) + copies + request.output_bytes


def _eager_bytes(request: Request) -> int:
    part = min(request.rows, _eager_rows(request))
    at_once = part * request.queries * (2 * request.keys + request.dim)
    size = scores_dtype(request.dtype).itemsize
    return at_once * size + request.output_bytes * (1 if part == request.rows else 2)


def _fused_bytes(request: Request) -> int:
    mask = request.queries * request.keys * request.dtype.itemsize if request.mask else 0
    return request.output_bytes + 4 * request.rows * request.queries + mask


def _sdpa_bytes(request: Request) -> int:
    """torch has fused kernels for heads alike in q and v whose mask has no gradient, and plain products for others."""
    return _fused_bytes(request) if sdpa_is_fused(request) else _reference_bytes(request)


def _chunked_bytes(request: Request) -> int:
    part = min(request.rows, _chunked_rows(request))
    keys = min(request.keys, chunked.KEYS)
    queries = min(request.queries, max(1, chunked.SCORES // max(1, part * keys)))
    chunks = part * (3 * queries * keys + 2 * queries * (request.dim + request.dim_v) + 2 * keys * request.dim)
    held = part * request.queries * (request.dim_v + 1)
    rounded = 0 if request.dtype.itemsize == _size(request) and part == request.rows else request.output_bytes
    return (chunks + held) * _size(request) + rounded


def _temporal_bytes(request: Request) -> int:
    if request.device.type == "cuda":
        return request.output_bytes
    wider = scores_dtype(request.dtype).itemsize // request.dtype.itemsize
    return wider * (request.input_bytes + 2 * request.scores * request.dtype.itemsize) + 2 * request.output_bytes


def sdpa_is_fused(request: Request) -> bool:
    """Whether torch has a kernel for the request that does not hold all scores."""
    return request.dim == request.dim_v and not request.mask_gradient


ALL = (
    Backend(
        "reference", "the definition, in plain torch", attend_reference, attend_frames_reference,
        _anything, _all_rows, _reference_bytes,
    ),
    Backend("eager", "two products around a softmax", attend_eager, None, _anything, _eager_rows, _eager_bytes),
    Backend(
        "sdpa", "torch's own: flash, cuDNN, memory-efficient or plain, as torch chooses", attend_sdpa, None,
        _anything, _grid, _sdpa_bytes,
    ),
    Backend(
        "xformers", "memory-efficient attention of xformers or mslk", xformers_kernel.attend_xformers, None,
        xformers_kernel.why_not, _grid, _fused_bytes,
    ),
    Backend(
        "flash", "FlashAttention 3 or 2", flash_kernel.attend_flash, None, flash_kernel.why_not, _grid, _fused_bytes
    ),
    Backend(
        "chunked", "exact in bounded memory, forward and backward, in plain torch", chunked.attend_chunked, None,
        _anything, _chunked_rows, _chunked_bytes,
    ),
    Backend(
        "temporal", "made for few frames at many positions", None, temporal.attend_frames_temporal,
        temporal.why_not, _all_rows, _temporal_bytes,
    ),
)  # fmt: skip
BACKENDS = tuple(backend.name for backend in ALL)
BY_NAME = {backend.name: backend for backend in ALL}

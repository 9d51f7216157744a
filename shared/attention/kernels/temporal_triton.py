"""Attention over a few frames at very many positions, as a Triton kernel: forward and backward, fp16, bf16 and fp32.

Temporal attention is thousands of tiny problems: at 512x512, 2 clips x 4,096 positions x 8 heads of 16 frames. Kernels
for long sequences spend nearly a whole tile on each, and first want frames brought next to each other. This one reads
q, k and v where they lie, "b t s heads d" with any strides (a view of "(b t) (h w) (heads d)", say), several problems a
program, a few channels at a time: it is bound by memory, so what counts is bytes, not products. The forward pass reads
each element once, the backward pass q, k and the output's gradient a second time, when they are in the cache.

A problem j is one head at one position, j = position * heads + head: problems that follow each other in memory stand
next to each other in a program. With T = frames (padded to a power of two, at least 16: the smallest tile that the
matrix units take) a program holds BLOCK x T x T scores, and there is nothing to keep for the gradients but its inputs:

    s = scale q k^T + bias       p = softmax(s)       out = p v
    dv = p^T do      dp = do v^T      ds = p (dp - rowsum(dp p))      dq = scale ds k      dk = scale ds^T q

(Dao et al. 2022, appendix B.2, for one tile.) `bias` is the mask and the relative positions' bias, "b heads t u".
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.attention.kernels.reference import attend_frames_reference, gradients_to_differentiate
from shared.attention.masks import additive

_TILE = 2048  # numbers of q, or scores, that a program holds, about: problems are packed until then
_LEAST = 16  # the smallest side of a product on the matrix units


@triton.jit
def _rows(pointer, b, j, t, heads, stride_b, stride_t, stride_s, stride_h, channel):
    """Pointers to "BLOCK T D": problem j's frame t. Offsets need 64 bits: clips may hold more than 2^31 numbers."""
    position, head = (j // heads).to(tl.int64), (j % heads).to(tl.int64)
    problem = b.to(tl.int64) * stride_b + position * stride_s + head * stride_h
    return pointer + problem[:, None, None] + t.to(tl.int64)[None, :, None] * stride_t + channel[None, None, :]


@triton.jit
def _bias_at(pointer, b, j, t, u, heads, stride_b, stride_h, stride_t, stride_u):
    """Pointers to "BLOCK T U". A stride is 0 where the bias is the same for all."""
    head = (j % heads)[:, None, None]
    return pointer + b * stride_b + head * stride_h + t[None, :, None] * stride_t + u[None, None, :] * stride_u


@triton.jit
def _softmax(scores, j_ok, t_ok, u_ok):
    """Over the frames there are; 0 for a query without any key."""
    scores = tl.where(u_ok[None, None, :], scores, float("-inf"))
    top = tl.max(scores, 2)
    top = tl.where(top == float("-inf"), 0.0, top)
    p = tl.exp(scores - top[:, :, None])
    total = tl.sum(p, 2)
    p = p / tl.where(total == 0, 1.0, total)[:, :, None]
    return tl.where(j_ok[:, None, None] & t_ok[None, :, None], p, 0.0)


@triton.jit
def _products(
    x_at, y_at, b, j, t, u, heads, x_b, x_t, x_s, x_h, y_b, y_t, y_s, y_h, t_rows, u_rows, dim,
    BLOCK: tl.constexpr, T: tl.constexpr, U: tl.constexpr, D: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """x y^T in float32, C channels at a time: "BLOCK T U"."""
    products = tl.zeros((BLOCK, T, U), tl.float32)
    for start in range(0, D, C):
        c = start + tl.arange(0, C)
        c_ok = (c < dim)[None, None, :]
        x = tl.load(_rows(x_at, b, j, t, heads, x_b, x_t, x_s, x_h, c), mask=t_rows & c_ok, other=0.0)
        y = tl.load(_rows(y_at, b, j, u, heads, y_b, y_t, y_s, y_h, c), mask=u_rows & c_ok, other=0.0)
        products = tl.dot(x, tl.permute(y, (0, 2, 1)), products, input_precision=PRECISION)
    return products


@triton.jit
def _mix(
    w, x_at, out_at, b, j, t, u, heads, x_b, x_t, x_s, x_h, o_b, o_t, o_s, o_h, t_rows, u_rows, dim,
    D: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out = w x, C channels at a time; w is "BLOCK T U", x has U rows and out has T."""
    for start in range(0, D, C):
        c = start + tl.arange(0, C)
        c_ok = (c < dim)[None, None, :]
        x = tl.load(_rows(x_at, b, j, u, heads, x_b, x_t, x_s, x_h, c), mask=u_rows & c_ok, other=0.0)
        out = tl.dot(w.to(x.dtype), x, input_precision=PRECISION).to(out_at.dtype.element_ty)
        tl.store(_rows(out_at, b, j, t, heads, o_b, o_t, o_s, o_h, c), out, mask=t_rows & c_ok)


@triton.jit
def forward(
    q_at, k_at, v_at, bias_at, out_at,
    q_b, q_t, q_s, q_h, k_b, k_t, k_s, k_h, v_b, v_t, v_s, v_h, o_b, o_t, o_s, o_h, bias_b, bias_h, bias_t, bias_u,
    problems, heads, frames, keys, dim, dim_v, scale,
    BLOCK: tl.constexpr, T: tl.constexpr, U: tl.constexpr, D: tl.constexpr, E: tl.constexpr, C: tl.constexpr,
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(problems, BLOCK)
    b, j = tl.program_id(0) // blocks, (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    t, u = tl.arange(0, T), tl.arange(0, U)
    j_ok, t_ok, u_ok = j < problems, t < frames, u < keys
    t_rows, u_rows = j_ok[:, None, None] & t_ok[None, :, None], j_ok[:, None, None] & u_ok[None, :, None]
    scores = scale * _products(
        q_at, k_at, b, j, t, u, heads, q_b, q_t, q_s, q_h, k_b, k_t, k_s, k_h, t_rows, u_rows, dim,
        BLOCK, T, U, D, C, PRECISION,
    )  # fmt: skip
    if HAS_BIAS:
        s_ok = t_rows & u_ok[None, None, :]
        at = _bias_at(bias_at, b, j, t, u, heads, bias_b, bias_h, bias_t, bias_u)
        scores += tl.load(at, mask=s_ok, other=0.0)
    p = _softmax(scores, j_ok, t_ok, u_ok)
    _mix(
        p, v_at, out_at, b, j, t, u, heads, v_b, v_t, v_s, v_h, o_b, o_t, o_s, o_h, t_rows, u_rows, dim_v,
        E, C, PRECISION,
    )  # fmt: skip


@triton.jit
def backward(
    q_at, k_at, v_at, bias_at, do_at, dq_at, dk_at, dv_at, dbias_at,
    q_b, q_t, q_s, q_h, k_b, k_t, k_s, k_h, v_b, v_t, v_s, v_h, do_b, do_t, do_s, do_h,
    dq_b, dq_t, dq_s, dq_h, dk_b, dk_t, dk_s, dk_h, dv_b, dv_t, dv_s, dv_h, bias_b, bias_h, bias_t, bias_u,
    problems, heads, frames, keys, dim, dim_v, scale,
    BLOCK: tl.constexpr, T: tl.constexpr, U: tl.constexpr, D: tl.constexpr, E: tl.constexpr, C: tl.constexpr,
    HAS_BIAS: tl.constexpr, BIAS_GRADIENT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(problems, BLOCK)
    b, j = tl.program_id(0) // blocks, (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    t, u = tl.arange(0, T), tl.arange(0, U)
    j_ok, t_ok, u_ok = j < problems, t < frames, u < keys
    t_rows, u_rows = j_ok[:, None, None] & t_ok[None, :, None], j_ok[:, None, None] & u_ok[None, :, None]
    s_ok = t_rows & u_ok[None, None, :]
    scores = scale * _products(
        q_at, k_at, b, j, t, u, heads, q_b, q_t, q_s, q_h, k_b, k_t, k_s, k_h, t_rows, u_rows, dim,
        BLOCK, T, U, D, C, PRECISION,
    )  # fmt: skip
    if HAS_BIAS:
        at = _bias_at(bias_at, b, j, t, u, heads, bias_b, bias_h, bias_t, bias_u)
        scores += tl.load(at, mask=s_ok, other=0.0)
    p = _softmax(scores, j_ok, t_ok, u_ok)
    _mix(
        tl.permute(p, (0, 2, 1)), do_at, dv_at, b, j, u, t, heads, do_b, do_t, do_s, do_h, dv_b, dv_t, dv_s, dv_h,
        u_rows, t_rows, dim_v, E, C, PRECISION,
    )  # fmt: skip
    dp = _products(
        do_at, v_at, b, j, t, u, heads, do_b, do_t, do_s, do_h, v_b, v_t, v_s, v_h, t_rows, u_rows, dim_v,
        BLOCK, T, U, E, C, PRECISION,
    )  # fmt: skip
    ds = p * (dp - tl.sum(dp * p, 2)[:, :, None])
    if BIAS_GRADIENT:
        at = _bias_at(dbias_at, b, j, t, u, heads, bias_b, bias_h, bias_t, bias_u)
        tl.atomic_add(at, ds, mask=s_ok)
    ds = ds * scale
    _mix(
        ds, k_at, dq_at, b, j, t, u, heads, k_b, k_t, k_s, k_h, dq_b, dq_t, dq_s, dq_h, t_rows, u_rows, dim,
        D, C, PRECISION,
    )  # fmt: skip
    _mix(
        tl.permute(ds, (0, 2, 1)), q_at, dk_at, b, j, u, t, heads, q_b, q_t, q_s, q_h, dk_b, dk_t, dk_s, dk_h,
        u_rows, t_rows, dim, D, C, PRECISION,
    )  # fmt: skip


def attend_frames_triton(
    q: Float[Tensor, "b t s heads d"],
    k: Float[Tensor, "b u s heads d"],
    v: Float[Tensor, "b u s heads e"],
    *,
    mask: Shaped[Tensor, "#b #heads #t #u"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b t s heads e"]:
    """See `shared.attention.attend_frames`. A mask that needs a gradient gets it. fp32 products are exact ("ieee").

    At most 64 frames and 256 channels a head (`temporal.why_not`).
    """
    bias = None if mask is None else additive(mask, torch.float32)
    return _Frames.apply(q, k, v, bias, q.shape[-1] ** -0.5 if scale is None else scale)


class _Frames(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        q, k, v = (_rows_in_memory(x) for x in (q, k, v))
        out = q.new_empty((*q.shape[:-1], v.shape[-1]))
        if out.numel():
            bias, strides = _expanded(mask, q, k)
            constants = _tiles(q, k, v)
            forward[_grid(q, constants)](
                q, k, v, bias, out, *_strides(q), *_strides(k), *_strides(v), *_strides(out), *strides,
                *_sizes(q, k, v), scale, **constants, HAS_BIAS=mask is not None,
            )  # fmt: skip
        ctx.save_for_backward(q, k, v, mask)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask = ctx.saved_tensors
        if torch.is_grad_enabled():  # these gradients will be differentiated again
            needed = ctx.needs_input_grad[:4]
            found = gradients_to_differentiate(attend_frames_reference, (q, k, v, mask), ctx.scale, upstream[0], needed)
            return *found, None
        d_out = _rows_in_memory(upstream[0])
        make = torch.empty_like if d_out.numel() else torch.zeros_like  # where no kernel runs, nothing depends on them
        d_q, d_k, d_v = (make(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        d_bias = torch.zeros(mask.shape, device=q.device) if ctx.needs_input_grad[3] else None
        if d_out.numel():
            bias, strides = _expanded(mask, q, k)
            into = d_bias.expand(bias.shape) if d_bias is not None else bias
            assert into.stride() == bias.stride() or d_bias is None
            constants = _tiles(q, k, v)
            backward[_grid(q, constants)](
                q, k, v, bias, d_out, d_q, d_k, d_v, into,
                *_strides(q), *_strides(k), *_strides(v), *_strides(d_out),
                *_strides(d_q), *_strides(d_k), *_strides(d_v), *strides,
                *_sizes(q, k, v), ctx.scale, **constants,
                HAS_BIAS=mask is not None, BIAS_GRADIENT=d_bias is not None,
            )  # fmt: skip
        return d_q, d_k, d_v, d_bias, None


def _rows_in_memory(x: Tensor) -> Tensor:
    """x with the channels of a head next to each other, which views of a projection have already."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _expanded(mask: Tensor | None, q: Tensor, k: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The mask in float32 as "b heads t u" without copies, and its strides; q stands in where there is none."""
    if mask is None:
        return q, (0, 0, 0, 0)
    full = mask.contiguous().expand(q.shape[0], q.shape[3], q.shape[1], k.shape[1])
    return full, full.stride()


def _strides(x: Tensor) -> tuple[int, ...]:
    return x.stride()[:4]


def _sizes(q: Tensor, k: Tensor, v: Tensor) -> tuple[int, ...]:
    return q.shape[2] * q.shape[3], q.shape[3], q.shape[1], k.shape[1], q.shape[4], v.shape[4]


def tiles(frames: int, keys: int, dim: int, dim_v: int, dtype: torch.dtype) -> dict[str, Any]:
    """Compile-time constants of both kernels: padded sizes, problems a program, channels at a time, warps."""
    frames, keys, dim, dim_v = (max(_LEAST, triton.next_power_of_2(n)) for n in (frames, keys, dim, dim_v))
    whole = dtype == torch.float32
    channels = min(dim, dim_v, 16 if whole else 32)
    problem = max(frames, keys) * max(channels, keys)
    return {
        "BLOCK": max(1, _TILE // problem // (4 if whole else 1)), "T": frames, "U": keys, "D": dim, "E": dim_v,
        "C": channels, "PRECISION": "ieee" if whole else "tf32",  # of no effect on 16-bit inputs
        "num_warps": 8 if problem >= 2 * _TILE else 4, "num_stages": 1,
    }  # fmt: skip


def _tiles(q: Tensor, k: Tensor, v: Tensor) -> dict[str, Any]:
    return tiles(q.shape[1], k.shape[1], q.shape[4], v.shape[4], q.dtype)


def _grid(q: Tensor, constants: dict[str, Any]) -> tuple[int]:
    return (q.shape[0] * triton.cdiv(q.shape[2] * q.shape[3], constants["BLOCK"]),)

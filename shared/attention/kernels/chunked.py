"""Exact attention in bounded memory, forward and backward: plain torch, any device.

For queries i in a chunk, over the chunks of keys j in turn (Milakov and Gimelshein 2018; Rabe and Staats 2021;
Dao et al. 2022, algorithm 1):

    s_ij = scale q_i . k_j + mask_ij        top_i  = the largest score so far
    total_i = sum_j exp(s_ij - top_i)       out_i  = sum_j exp(s_ij - top_i) v_j / total_i,
                                            both rescaled whenever top_i grows
    lse_i = top_i + log total_i             all that is kept for the gradients, which form
    p_ij  = exp(s_ij - lse_i)               chunk by chunk again (Dao et al. 2022, appendix B.2)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.attention.kernels.reference import attend_reference, gradients_to_differentiate
from shared.attention.masks import additive

SCORES = 2**21  # scores held at once, over all of batch and heads
KEYS = 512  # keys of one chunk


def attend_chunked(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads m d"],
    v: Float[Tensor, "b heads m e"],
    *,
    mask: Shaped[Tensor, "#b #heads #n #m"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b heads n e"]:
    """See `shared.attention.attend`. Sums are kept in single precision at least. Second derivatives hold all scores."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    bias = None if mask is None else additive(mask, torch.promote_types(q.dtype, torch.float32))
    with torch.autocast(q.device.type, enabled=False):  # which would round the products of forward, not of backward
        return _Chunked.apply(q, k, v, bias, scale)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float
    ) -> Float[Tensor, "b heads n e"]:
        precise = torch.promote_types(q.dtype, torch.float32)
        out = q.new_empty((*q.shape[:3], v.shape[-1]), dtype=precise)
        lse = q.new_empty((*q.shape[:3], 1), dtype=precise)
        for rows in _chunks(q.shape[2], _queries_at_once(q, k)):
            top = torch.full_like(lse[:, :, rows], -torch.inf)
            total, mixed = torch.zeros_like(top), torch.zeros_like(out[:, :, rows])
            for keys in _chunks(k.shape[2], KEYS):
                scores = _scores(q, k, bias, scale, rows, keys)
                higher = torch.maximum(top, scores.amax(-1, keepdim=True))
                finite = torch.where(higher == -torch.inf, 0.0, higher)  # -inf - -inf is not a number
                weights = scores.sub_(finite).exp_()
                shrink = (top - finite).exp()
                total = total * shrink + weights.sum(-1, keepdim=True)
                mixed = mixed * shrink + weights @ v[:, :, keys].to(precise)
                top = higher
            some = torch.where(total == 0, 1.0, total)  # a query without any key gives 0
            out[:, :, rows] = mixed / some
            lse[:, :, rows] = torch.where(total == 0, torch.inf, top) + some.log()
        ctx.save_for_backward(q, k, v, bias, out, lse)
        ctx.scale = scale
        return out.to(q.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias, out, lse = ctx.saved_tensors
        precise, scale = lse.dtype, ctx.scale
        if torch.is_grad_enabled():  # these gradients will be differentiated again
            needed = ctx.needs_input_grad[:4]
            found = gradients_to_differentiate(attend_reference, (q, k, v, bias), scale, upstream[0], needed)
            return *found, None
        d_q, d_k, d_v = (torch.zeros_like(x, dtype=precise) for x in (q, k, v))
        d_bias = torch.zeros_like(bias) if ctx.needs_input_grad[3] else None
        for rows in _chunks(q.shape[2], _queries_at_once(q, k)):
            d_out = upstream[0][:, :, rows].to(precise)
            along = (d_out * out[:, :, rows]).sum(-1, keepdim=True)  # sum_j p_ij dL/dp_ij
            for keys in _chunks(k.shape[2], KEYS):
                weights = _scores(q, k, bias, scale, rows, keys).sub_(lse[:, :, rows]).exp_()
                d_v[:, :, keys] += weights.transpose(-1, -2) @ d_out
                d_scores = weights.mul_(d_out @ v[:, :, keys].to(precise).transpose(-1, -2) - along)
                if d_bias is not None:
                    part = _part(d_bias, rows, keys)
                    part += d_scores.sum_to_size(part.shape)
                d_q[:, :, rows] += scale * (d_scores @ k[:, :, keys].to(precise))
                d_k[:, :, keys] += scale * (d_scores.transpose(-1, -2) @ q[:, :, rows].to(precise))
        return d_q.to(q.dtype), d_k.to(k.dtype), d_v.to(v.dtype), d_bias, None


def _queries_at_once(q: Tensor, k: Tensor) -> int:
    return max(1, SCORES // max(1, q.shape[0] * q.shape[1] * min(KEYS, k.shape[2])))


def _chunks(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def _scores(q: Tensor, k: Tensor, bias: Tensor | None, scale: float, rows: slice, keys: slice) -> Tensor:
    """s_ij of one chunk, in single precision at least."""
    precise = torch.promote_types(q.dtype, torch.float32)
    scores = (scale * q[:, :, rows].to(precise)) @ k[:, :, keys].to(precise).transpose(-1, -2)
    return scores if bias is None else scores + _part(bias, rows, keys)


def _part(mask: Tensor, rows: slice, keys: slice) -> Tensor:
    """The chunk's part of a mask that may be 1 long."""
    mask = mask if mask.shape[2] == 1 else mask[:, :, rows]
    return mask if mask.shape[3] == 1 else mask[..., keys]

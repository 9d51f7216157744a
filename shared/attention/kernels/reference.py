"""The definition that every kernel is held against. Plain torch, any device, single precision at least.

    out_i = sum_j softmax_j(scale q_i . k_j + mask_ij) v_j          (Vaswani et al. 2017, equation 1)

A query without keys, or whose keys are all masked out, attends to nothing: its output is 0. Numbers that are not finite
are not looked for: they go through the formula as IEEE 754 has it, to the rows that they reach, and to no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.attention.masks import additive


def attend_reference(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads m d"],
    v: Float[Tensor, "b heads m e"],
    *,
    mask: Shaped[Tensor, "#b #heads #n #m"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b heads n e"]:
    """See `shared.attention.attend`."""
    with torch.autocast(q.device.type, enabled=False):  # which would round the products
        precise = torch.promote_types(q.dtype, torch.float32)
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        scores = scale * torch.einsum("bhnd,bhmd->bhnm", q.to(precise), k.to(precise))
        weights = _softmax(scores, mask)
        return torch.einsum("bhnm,bhme->bhne", weights, v.to(precise)).to(q.dtype)


def attend_frames_reference(
    q: Float[Tensor, "b t s heads d"],
    k: Float[Tensor, "b u s heads d"],
    v: Float[Tensor, "b u s heads e"],
    *,
    mask: Shaped[Tensor, "#b #heads #t #u"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "b t s heads e"]:
    """See `shared.attention.attend_frames`: the same equation at each position s, over the frames."""
    with torch.autocast(q.device.type, enabled=False):
        precise = torch.promote_types(q.dtype, torch.float32)
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        scores = scale * torch.einsum("btshd,bushd->sbhtu", q.to(precise), k.to(precise))
        weights = _softmax(scores, mask)
        return torch.einsum("sbhtu,bushe->btshe", weights, v.to(precise)).to(q.dtype)


def _softmax(scores: Float[Tensor, "*s b heads n m"], mask: Tensor | None) -> Float[Tensor, "*s b heads n m"]:
    if not scores.shape[-1]:
        return scores
    if mask is not None:
        scores = scores + additive(mask, scores.dtype)
    top = scores.amax(-1, keepdim=True).detach()
    weights = torch.exp(scores - torch.where(top == -torch.inf, 0.0, top))
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total == 0, 1.0, total)


def gradients_to_differentiate(
    reference: Callable[..., Tensor],
    inputs: Sequence[Tensor | None],
    scale: float,
    upstream: Tensor,
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """The gradients of q, k, v and mask (`inputs`) by plain torch, for kernels whose own cannot be differentiated.

    It holds all scores, as second derivatives by plain torch do.
    """
    q, k, v, mask = inputs
    with torch.enable_grad():
        out = reference(q, k, v, mask=mask, scale=scale)
        wanted = [x for x, need in zip(inputs, needed, strict=True) if need and x is not None]
        found = iter(torch.autograd.grad(out, wanted, upstream, create_graph=True))
    return tuple(next(found) if need else None for need in needed)

"""The definition that every kernel is held against. Plain torch, any device, single precision at least.

    out_i = sum_j softmax_j(scale q_i . k_j + mask_ij) v_j          (Vaswani et al. 2017, equation 1)

A query whose keys are all masked out attends to nothing: its output is 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


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
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.to(precise)
        top = scores.amax(-1, keepdim=True).detach()
        weights = torch.exp(scores - torch.where(top == -torch.inf, 0.0, top))
        total = weights.sum(-1, keepdim=True)
        weights = weights / torch.where(total == 0, 1.0, total)
        return torch.einsum("bhnm,bhme->bhne", weights, v.to(precise)).to(q.dtype)

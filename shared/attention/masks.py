"""Masks as numbers to add to scores, and the rule for a query without any key: it attends to nothing, and gives 0."""

from __future__ import annotations

import torch
from torch import Tensor


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as one to add, in `dtype`: of a boolean one (True attends), or of one to be added.

    A softmax is the same wherever its row begins. So the largest number of a row of the mask is taken off it first, in
    single precision at least: a row of nothing but -10,000, or of a dtype's least number, would leave a score in half
    precision no digits, or overflow.
    """
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, -torch.inf)
    if not mask.shape[-1]:
        return mask.to(dtype)
    mask = mask.to(torch.promote_types(mask.dtype, torch.float32))
    top = mask.detach().amax(-1, keepdim=True)
    return (mask - torch.where(top == -torch.inf, 0.0, top)).to(dtype)


def safe_bias(mask: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(`additive` without rows of nothing but -inf, whose softmax is not a number; which rows these were, "... n 1").

    What a kernel makes of such rows, with the 0 that stands in them, is to be filled with 0.
    """
    bias = additive(mask, dtype)
    empty = (bias == -torch.inf).all(-1, keepdim=True)
    return bias.masked_fill(empty, 0.0), empty

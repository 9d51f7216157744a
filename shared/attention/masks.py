"""Masks as numbers to add to scores, and the rule for a query without any key: it attends to nothing, and gives 0."""

from __future__ import annotations

import torch
from torch import Tensor


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask (True attends) as one to add; others in `dtype`."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, -torch.inf)
    return mask.to(dtype)


def safe_bias(mask: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(`additive` without rows of nothing but -inf, whose softmax is not a number; which rows these were, "... n 1").

    What a kernel makes of such rows, with the 0 that stands in them, is to be filled with 0.
    """
    bias = additive(mask, dtype)
    empty = (bias == -torch.inf).all(-1, keepdim=True)
    return bias.masked_fill(empty, 0.0), empty

"""Makes networks give every sample of a batch, on a CPU, the very bits that it would get alone.

torch multiplies matrices by MKL, which chooses its kernel, and with it the order of sums, by their sizes. Over many
rows all choices agree here; over a few (the embedding of one noise level a sample, say) they differ with the number of
rows, and that number is the batch. So products over few rows are computed over `ROWS` of them, the rest zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

ROWS = 64


class ExactBatches(TorchFunctionMode):
    """Inside, `torch.nn.functional.linear` on a CPU does not depend on how many rows there are."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.linear and not kwargs and args[0].device.type == "cpu":
            return padded_linear(*args)
        return func(*args, **(kwargs or {}))


def padded_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` with at least ROWS rows. x: "... in"; returns "... out"."""
    rows = x.shape[:-1].numel()
    if not 0 < rows < ROWS:
        return F.linear(x, weight, bias)
    flat = x.reshape(rows, x.shape[-1])
    padded = torch.cat([flat, flat.new_zeros(ROWS - rows, flat.shape[1])])
    return F.linear(padded, weight, bias)[:rows].reshape(*x.shape[:-1], weight.shape[0])

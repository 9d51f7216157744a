"""Makes networks give every sample of a batch, on a CPU, the very bits that it would get alone.

torch and MKL choose their kernels, and with them the order of sums, by the sizes of what they get:

- Products with a matrix: over many rows all choices agree here; over a few (the embedding of one noise level a sample,
  say) they differ with the number of rows, and that number is the batch. So products over few rows are computed over
  `ROWS` of them, the rest zeros.
- Convolutions and batched products of a single sample take another way than those of several, where they are small: a
  network without guidance gets such. So one small sample is computed as two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

ROWS = 64
SMALL = 20_480  # numbers in a sample: larger ones are convolved by oneDNN even when they are alone
PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)


class ExactBatches(TorchFunctionMode):
    """Inside, linear maps, convolutions and products on a CPU do not depend on the size of the batch."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear and (args[0] if args else kwargs["input"]).device.type == "cpu":
            return padded_linear(*args, **kwargs)
        if func is F.conv2d and args and _one_small(args[0]):
            return func(_twice(args[0]), *args[1:], **kwargs)[:1]
        if func in PRODUCTS and len(args) == 2 and args[1].ndim == args[0].ndim and all(map(_one_small, args)):
            return func(*map(_twice, args))[:1]
        return func(*args, **kwargs)


def padded_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, by its arguments' names, with at least ROWS rows. input: "... in"; returns "... out"."""
    rows = input.shape[:-1].numel()
    if not 0 < rows < ROWS:
        return F.linear(input, weight, bias)
    flat = input.reshape(rows, input.shape[-1])
    padded = torch.cat([flat, flat.new_zeros(ROWS - rows, flat.shape[1])])
    return F.linear(padded, weight, bias)[:rows].reshape(*input.shape[:-1], weight.shape[0])


def _one_small(x: Tensor) -> bool:
    """Whether it is a batch of one small sample, on a CPU; matrices and vectors are no batch."""
    return x.device.type == "cpu" and x.ndim > 2 and len(x) == 1 and x.numel() <= SMALL


def _twice(x: Tensor) -> Tensor:
    """As a batch of two; in memory its dimensions are in the same order, on which kernels depend as well."""
    order = [0, *sorted(range(1, x.ndim), key=x.stride, reverse=True)]
    return torch.cat([x.permute(order)] * 2).permute([order.index(dim) for dim in range(x.ndim)])

"""Runs a program on tensors that have shapes, dtypes and devices but no values: nothing large is allocated or computed.

torch's fake tensors are meta tensors that remember which device they stand for, so that a program decides by device as
it would there. Where a program asks for a value, `hollow` answers as a run that goes well would: numbers are 0, what is
asked of a tensor holds, nothing is found by `any` (so all numbers are finite), arrays are zeros.

A program that picks elements by a mask makes tensors whose size nobody knows. `share` says how many of a mask's
elements are true, by the operation that made the mask; every pick by the same mask has the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from shared.compute.torch_internals import FakeTensorMode, TorchDispatchMode, without_modes
from shared.plan.tracker import WHERE

aten = torch.ops.aten

# (the operation that made a mask, such as `torch.ops.aten.lt`; None where it is not known) -> share of true elements.
Share = Callable[[Any], float]


def all_true(_operation: Any) -> float:
    """The share where nothing better is known: the most that can be."""
    return 1.0


@contextmanager
def hollow(share: Share = all_true) -> Iterator[None]:
    """Inside, whatever torch makes has no values. Tensors with values may go in; what comes of them has none."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, _Answers(share), _Arrays(mode):
        yield


class _Answers(TorchDispatchMode):
    """Answers for operations whose result, or whose result's size, depends on values."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.share = share
        self._values: WeakIdKeyDictionary = WeakIdKeyDictionary()  # tensor -> what `item` gives
        self._made_by: WeakIdKeyDictionary = WeakIdKeyDictionary()  # mask -> the operation that made it
        self._counts: WeakIdKeyDictionary = WeakIdKeyDictionary()  # mask -> how many of its elements are true

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is WHERE:
            return func(*args)
        operation = func._overloadpacket
        if operation is aten._local_scalar_dense:
            return self._value(args[0])
        if operation is aten.nonzero:
            return args[0].new_empty((args[0].ndim, self._count(args[0])), dtype=torch.int64).T
        mask = _mask_of(operation, args)
        if mask is not None and operation is aten.index:
            return args[0].new_empty((self._count(mask), *args[0].shape[mask.ndim :]))
        if mask is not None:  # writes to the picked elements, in place or to a copy
            return args[0] if func._schema.name.endswith("_") else torch.empty_like(args[0])
        out = func(*args, **dict(kwargs or {}))
        if operation is aten.any:
            self._values[out] = False
        if isinstance(out, Tensor) and out.dtype == torch.bool:
            self._made_by[out] = operation
            if operation is aten.masked_scatter:  # as many are true as in what was scattered
                self._counts[out] = self._count(args[2])
        return out

    def _value(self, tensor: Tensor) -> bool | int | float:
        constant = getattr(tensor, "constant", None)
        if constant is not None:
            with without_modes():
                return constant.item()
        if tensor.dtype == torch.bool:
            return self._values.get(tensor, True)
        return 0.0 if tensor.dtype.is_floating_point else 0

    def _count(self, mask: Tensor) -> int:
        if mask not in self._counts:
            self._counts[mask] = round(self.share(self._made_by.get(mask)) * mask.numel())
        return self._counts[mask]


class _Arrays(TorchFunctionMode):
    """Arrays of tensors without values are zeros."""

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()
        self.mode = mode

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is Tensor.numpy:
            return np.zeros(tuple(args[0].shape), str(args[0].dtype).removeprefix("torch."))
        if func is Tensor.__deepcopy__:  # torch's own copies the mode, too
            return _copied(*args)
        out = func(*args, **dict(kwargs or {}))
        # The mode keeps weak references to new tensors, and `Module.to` refuses parameters that have some.
        self.mode.fake_tensor_converter.meta_converter.tensor_memo.clear()
        return out


def _copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    if id(tensor) not in memo:
        copy = tensor.detach().clone()
        memo[id(tensor)] = nn.Parameter(copy, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copy
    return memo[id(tensor)]


def _mask_of(operation: Any, args: Sequence[Any]) -> Tensor | None:
    """The mask that `operation` picks by, or None. Raises NotImplementedError for a mask beside other indices."""
    if operation not in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_):
        return None
    masks = [index for index in args[1] if index is not None and index.dtype == torch.bool]
    if not masks:
        return None
    if len(args[1]) > 1:
        raise NotImplementedError("a mask beside other indices")
    return masks[0]

"""Follows what a program allocates: the bytes of every live storage, and the work of every operation.

A storage is what a tensor, its views and its in-place results share; it lives until nothing refers to it, autograd's
saved tensors included. `Tracker` sees every operation that torch dispatches, so it follows real programs unchanged, on
tensors with values and without (`shared.plan.hollow`).

It does not see two things that weigh on a CPU, and models them. oneDNN works on blocked copies of a convolution's
operands unless they are channels-last (`convolution_workspace`). And malloc's heap, where blocks below LARGE lie, does
not shrink and fragments: it takes HEAP_WASTE more than the most that ever came and went in it (glibc 2.36: 0.6 more in
trainings, 1.2 in forward passes; none with MALLOC_MMAP_THRESHOLD_=65536, which costs time).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from shared.compute.torch_internals import TorchDispatchMode, flop_registry, tree_iter

OTHER = "activations"  # the kind of what nobody labelled
WORKSPACE = "workspace"
ALLOCATOR = "allocator"
LARGE = 32 * 2**20  # bytes; glibc gives such blocks back at once
HEAP_WASTE = 1.0
CUDA_BLOCK = 512  # bytes; torch's CUDA allocator hands out multiples
WHERE = torch.ops.prim.device.default  # where a tensor without values lies: half of all that is dispatched, and no work
CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)


@dataclass(frozen=True)
class Op:
    """One operation. flops: of products, 2 for a multiplication with its addition. moved: bytes read and written."""

    flops: int
    moved: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Peak:
    """The most bytes that lived at one time, and of which kind they were."""

    total: int
    kinds: Mapping[str, int] = field(default_factory=dict)


class Tracker(TorchDispatchMode):
    """Use as a context around the program.

        with Tracker("cpu") as tracker:
            loss = network(x).sum()
        tracker.label("weights", network.parameters())
        tracker.peak().total

    device: storages on devices of another type are not counted.
    """

    def __init__(self, device: str = "cpu") -> None:
        super().__init__()
        self.device = device
        self.ops: list[Op] = []
        self._events: list[tuple[int, int]] = []  # (number of the storage, change of its bytes), in order of time
        self._kinds: dict[int, str] = {}
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()  # storage -> [its number, its bytes]
        self._references: dict[int, weakref.ref] = {}
        self._numbers = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is WHERE:
            return func(*args, **kwargs)
        read = _tensors(args)
        self.track(read)  # those made before, such as weights that a file holds
        out = func(*args, **kwargs)
        results = _tensors(out)
        self.track(results)
        copies = convolution_workspace(func, read, results) if self.device == "cpu" else []
        for free in [self.allocate(size, WORKSPACE) for size in copies]:
            free()
        if not func.is_view:
            self._count(func, args, kwargs, out, (*read, *results))
        return out

    def track(self, tensors: Iterable[Tensor]) -> None:
        """Count the storages of `tensors` from now on, as if they were allocated here, once each."""
        for tensor in tensors:
            if tensor.device.type != self.device or tensor.layout != torch.strided:
                continue
            storage = tensor.untyped_storage()
            size = self._size(storage.nbytes())
            if storage in self._known:
                number, before = self._known[storage]
                if size == before:
                    continue
                self._events.append((number, size - before))  # grown or shrunk in place
                self._known[storage][1] = size
            else:
                number = self._new(size)
                known = [number, size]
                self._known[storage] = known
                self._references[number] = weakref.ref(storage, partial(self._freed, known))

    def allocate(self, size: int, kind: str) -> Callable[[], None]:
        """Count `size` bytes that no tensor holds, of `kind`; call the result to free them."""
        known = [self._new(size), size]
        self._kinds[known[0]] = kind
        return partial(self._freed, known)

    def label(self, kind: str, tensors: Iterable[Tensor]) -> None:
        """Say what `tensors` are, for `peak`. May be said at any time before it, of tensors that still live."""
        for tensor in tensors:
            known = self._known.get(tensor.untyped_storage())
            if known is not None:
                self._kinds[known[0]] = kind

    def label_rest(self, kind: str) -> None:
        """Say that everything that lives now, and that nobody labelled, is of `kind`."""
        for number in self._references:
            self._kinds.setdefault(number, kind)

    def peak(self, *, heap_waste: float | None = None) -> Peak:
        """The first moment of the highest total; with `heap_waste` that of a process with malloc's heap."""
        now: dict[str, int] = {}
        total, in_heap, most_in_heap, highest, then = 0, 0, 0, 0, {}
        for number, change in self._events:
            kind = self._kinds.get(number, OTHER)
            now[kind] = now.get(kind, 0) + change
            total += change
            if heap_waste is not None and kind in (OTHER, WORKSPACE) and abs(change) < LARGE:
                in_heap += change
                most_in_heap = max(most_in_heap, in_heap)
            wasted = round(most_in_heap * (1 + (heap_waste or 0.0))) - in_heap
            if total + wasted > highest:
                highest, then = total + wasted, {**now, ALLOCATOR: wasted}
        return Peak(highest, {name: size for name, size in then.items() if size})

    @property
    def live(self) -> int:
        """Bytes that live now."""
        return sum(change for _, change in self._events)

    @property
    def flops(self) -> int:
        """Of all operations so far."""
        return sum(op.flops for op in self.ops)

    def _new(self, size: int) -> int:
        self._numbers += 1
        self._events.append((self._numbers, size))
        return self._numbers

    def _freed(self, known: list[int], _reference: object = None) -> None:
        number, size = known
        self._events.append((number, -size))
        self._references.pop(number, None)

    def _size(self, size: int) -> int:
        return size if self.device == "cpu" else -(-size // CUDA_BLOCK) * CUDA_BLOCK

    def _count(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any, used: Sequence[Tensor]) -> None:
        here = [tensor for tensor in used if tensor.device.type == self.device]
        if here:
            formula = flop_registry.get(func._overloadpacket)
            flops = int(formula(*args, **kwargs, out_val=out)) if formula else 0
            self.ops.append(Op(flops, sum(t.numel() * t.element_size() for t in here), here[0].dtype))


def convolution_workspace(func: Any, read: Sequence[Tensor], results: Sequence[Tensor]) -> list[int]:
    """Bytes of the blocked copies that a CPU's convolution works on: of every operand that is not channels-last."""
    if func._overloadpacket not in CONVOLUTIONS:
        return []
    return [t.numel() * t.element_size() for t in (*read, *results) if t.ndim >= 4 and not _channels_last(t)]


def _channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_iter(values) if isinstance(value, Tensor)]

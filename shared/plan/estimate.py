"""An estimate: what a run will hold at its peak, of which kind, and how long it will take.

peak = base + what lives at the worst moment: weights, gradients, optimiser and averages, activations, workspace,
and what the allocator wastes. On a CPU this is to be compared with the most memory that the process holds
(`peak_memory_bytes` of `--json`), and base is what the process holds before it loads a model: interpreter, torch, code.
On a GPU it is the most that torch allocates there (`peak_device_memory_bytes`), and base is 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.compute.process_memory import peak_bytes, resident_bytes
from shared.plan.hollow import Share, all_true, hollow
from shared.plan.tracker import HEAP_WASTE, Op, Peak, Tracker

LOADING = "loading"
T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """Bytes. weights: of all networks. peak: see above. kinds: what `peak` consists of.

    ops: the work of the whole run, as (how often, operations), for `shared.plan.calibration`.
    weights_alone: what it computes with is not known: the peak is at least this.
    """

    device: str
    weights: int
    peak: int
    kinds: Mapping[str, int]
    ops: Sequence[tuple[float, Sequence[Op]]] = field(default=(), repr=False)
    weights_alone: bool = False

    @property
    def activations(self) -> int:
        """What the run holds at its peak besides the process, its weights and what it trains with."""
        return sum(self.kinds.get(kind, 0) for kind in ("activations", "workspace", "allocator"))

    @property
    def flops(self) -> float:
        """Of the whole run."""
        return sum(times * op.flops for times, ops in self.ops for op in ops)


@dataclass(frozen=True)
class Trace:
    """What `trace_run` saw. ops: the operations up to each state of the run, and after the last. saved: bytes that
    its weights lose as they are quantised, which is before it runs."""

    weights: int
    loading: int
    peak: Peak
    ops: list[list[Op]]
    saved: int = 0

    def estimate(self, device: str, times: Sequence[float]) -> Estimate:
        """times: how often the whole run does what led to each state; 1 where it says nothing."""
        base = base_bytes() if device == "cpu" else 0
        kinds = dict(self.peak.kinds)
        if self.saved:
            kinds["weights"] -= self.saved
        held = {LOADING: self.loading} if self.loading > sum(kinds.values()) else kinds
        repeated = [(times[i] if i < len(times) else 1.0, ops) for i, ops in enumerate(self.ops)]
        return Estimate(device, self.weights - self.saved, base + sum(held.values()), {"base": base, **held}, repeated)


def trace_run(
    load: Callable[[], T],
    networks: Callable[[T], Sequence[nn.Module]],
    run: Callable[[T], Iterable[object]],
    *,
    device: str,
    share: Share = all_true,
    outlives: str | None = None,
    files: bool = True,
    saved: Callable[[T], int] = lambda _: 0,
) -> Trace:
    """Loads and runs without values, and counts what it allocates on `device`.

    networks: those of what `load` gives, in the order in which they are loaded. run: a generator of states.
    share: see `shared.plan.hollow`. outlives: the kind of what is still there after a state, where it has one.
    files: whether the weights come from files. saved: bytes by which what `load` gives is smaller once it is quantised.
    """
    with hollow(share):
        subject = load()
        modules = networks(subject)
        less = saved(subject)
        weights = [tensor for module in modules for tensor in _emptied(module)]
        with Tracker(device) as tracker:
            tracker.track(weights)
            tracker.label("weights", weights)
            held = tracker.live
            marks = [0]
            for _ in run(subject):
                marks.append(len(tracker.ops))
                tracker.label("gradients", [w.grad for w in weights if w.grad is not None])
                if outlives is not None:
                    tracker.label_rest(outlives)
            marks.append(len(tracker.ops))
        peak = tracker.peak(heap_waste=HEAP_WASTE if device == "cpu" else None)
    ops = [tracker.ops[start:stop] for start, stop in itertools.pairwise(marks)]
    return Trace(held, _loading(modules) if files and device == "cpu" else 0, peak, ops, less)


def take(states: Iterator[T], count: int) -> Iterator[T]:
    """The first `count` states, without what comes after the last."""
    for _, state in zip(range(count), states, strict=False):
        yield state


def base_bytes() -> int:
    """What this process holds now, torch's kernels included; the most it has held where the system does not tell."""
    _touch_kernels()
    return resident_bytes() or peak_bytes() or 0


@torch.no_grad()
def _touch_kernels() -> None:
    """Code comes into memory when it first runs."""
    picture = torch.zeros(1, 16, 8, 8)
    hidden = functional.conv2d(picture, torch.zeros(16, 16, 3, 3), padding=1)
    hidden = functional.silu(functional.group_norm(hidden, 4))
    tokens = functional.layer_norm(hidden.flatten(2).transpose(1, 2), (16,))
    functional.gelu(functional.linear(tokens, torch.zeros(16, 16)))
    functional.scaled_dot_product_attention(tokens, tokens, tokens)


def _emptied(module: nn.Module) -> list[Tensor]:
    """The weights of a module, after those that came with values have lost them."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and type(parameter.data) is Tensor:
                part._parameters[name] = nn.Parameter(torch.empty_like(parameter), parameter.requires_grad)
    return [*module.parameters(), *module.buffers()]


def _loading(modules: Sequence[nn.Module]) -> int:
    """The most bytes while loading: a file in half precision lies in memory beside the single precision made of it."""
    loaded, most = 0, 0
    for module in modules:
        size = sum(p.numel() * p.element_size() for p in module.parameters())
        half = sum(p.numel() * 2 for p in module.parameters() if p.dtype == torch.float32)
        most = max(most, loaded + size + half)
        loaded += size
    return most

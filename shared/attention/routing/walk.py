"""Every attention of a loaded network, and whether it goes through `attend`.

Stock networks bring an attention class each, fifty in diffusers alone. What one does is read off the names that its
code uses: its processor's `__call__`, or its own `forward`, and the methods that these name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, Literal, NamedTuple

from diffusers.models.attention_dispatch import AttentionBackendName
from torch import nn

from shared.attention.routing.routed import Routed, stock_class

OURS = {"attend", "attend_frames"}
TORCHS = {"scaled_dot_product_attention", "dispatch_attention_fn", "ALL_ATTENTION_FUNCTIONS"}  # all end in torch's call
OTHERS = {
    "softmax",
    "get_attention_scores",
    "multi_head_attention_forward",
    "memory_efficient_attention",
    "flex_attention",
}
INTERFACE = "sdpa_through_attend"  # in transformers' table; "sdpa" in a name makes it check that the model takes it
Way = Literal["attend", "torch", "other"]


class Attention(NamedTuple):
    """One attention module of a network.

    way: what its code calls: "attend", "torch" for scaled_dot_product_attention, or "other". routed: goes through
    `attend`, also where its code calls torch.
    """

    name: str
    module: nn.Module
    way: Way
    routed: bool

    @property
    def kind(self) -> str:
        """The class that computes it: the processor's, where there is one."""
        processor = getattr(self.module, "processor", None)
        return (stock_class(self.module) if processor is None else type(processor)).__name__


def attentions(network: nn.Module) -> list[Attention]:
    """Every attention module of `network`, itself included, in the order of its modules."""
    found = []
    for name, module in network.named_modules():
        way = way_of(module)
        if way is not None:
            found.append(Attention(name, module, way, _is_routed(module, way)))
    return found


def unrouted(network: nn.Module) -> list[Attention]:
    """The attention modules that do not go through `attend`; none after `install_attention`."""
    return [attention for attention in attentions(network) if not attention.routed]


def way_of(module: nn.Module) -> Way | None:
    """What attends in the module's own code, its submodules' aside; None where nothing does.

    A processor that shows none of the known names is "other". So is code that shows a softmax beside torch's call.
    """
    processor = getattr(module, "processor", None)
    has_processor = processor is not None and callable(processor)
    names = set(_names(type(processor), "__call__") if has_processor else _names(stock_class(module), "forward"))
    if names & OURS:
        return "attend"
    if names & OTHERS or isinstance(module, nn.Softmax):
        return "other"
    if names & TORCHS:
        return "torch"
    return "other" if has_processor else None


def _is_routed(module: Any, way: Way) -> bool:
    if way != "torch":
        return way == "attend"
    if is_of_transformers(module):
        return module.config._attn_implementation == INTERFACE
    backend = getattr(getattr(module, "processor", None), "_attention_backend", AttentionBackendName.NATIVE)
    return isinstance(module, Routed) and backend == AttentionBackendName.NATIVE


def is_of_transformers(module: Any) -> bool:
    """Whether transformers' own table of attention functions decides how the module attends."""
    return hasattr(getattr(module, "config", None), "_attn_implementation")


def _names(owner: type, method: str) -> Iterator[str]:
    """Every name used by `method` of a class and by the methods of the class that it names, and so on."""
    waiting, seen = [method], set()
    while waiting:
        name = waiting.pop()
        function: Any = getattr(owner, name, None) if name not in seen else None
        seen.add(name)
        if isinstance(function, FunctionType):
            used = set(_names_in(inspect.unwrap(function).__code__))
            waiting.extend(used)
            yield from used


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)

"""Puts `attend` into the networks of diffusers and transformers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from diffusers.models import attention_processor as stock
from diffusers.models.attention_dispatch import AttentionBackendName
from diffusers.models.embeddings import AttentionPooling
from torch import nn

from shared.attention.routing.pooling import AttendPooling
from shared.attention.routing.processor import AttendAddedKVProcessor, AttendProcessor
from shared.attention.routing.route import Route
from shared.attention.routing.routed import route_through, stock_class
from shared.attention.routing.walk import INTERFACE, Attention, attentions, is_of_transformers
from shared.errors import ModelError

PLAIN = (
    AttendProcessor,
    stock.AttnProcessor,
    stock.AttnProcessor2_0,
    stock.XFormersAttnProcessor,
    stock.SlicedAttnProcessor,
)
ADDED_KV = (
    AttendAddedKVProcessor,
    stock.AttnAddedKVProcessor,
    stock.AttnAddedKVProcessor2_0,
    stock.XFormersAttnAddedKVProcessor,
    stock.SlicedAttnAddedKVProcessor,
)


def install_attention(network: nn.Module, backend: str = "auto") -> int:
    """Route every attention of a diffusers or transformers network through `attend`; returns how many there are.

    Plain attention gets a processor of ours, prompt pooling a forward of ours, a model of transformers an entry in
    transformers' own table; whatever else ends in torch's own call (`shared.attention.routing.torch_call`) keeps its
    code. Weights and their names stay. `unrouted` shows what came in later, by an adapter or a fused projection;
    calling this again routes that, too.

    Raises ModelError, and changes nothing, where an attention is of neither kind; InputError for an unknown backend.
    """
    Route(backend)  # an unknown one is found before anything changes
    found = attentions(network)
    changes = [_change(attention, backend) for attention in found]
    named = [module for module in network.modules() if hasattr(module, "set_attn_implementation")]
    models: list[Any] = [module for module in named if attentions(module)]  # one of convolutions alone takes no name
    if models:
        from shared.attention.routing import interface  # whose import brings transformers

        for model in models:
            interface.check_takes_sdpa(model)
    for change in changes:
        change()
    for model in models:
        model.set_attn_implementation({"": INTERFACE})  # what it holds is asked by itself
    return len(found)


def _change(attention: Attention, backend: str) -> Callable[[], None]:
    """What routes one attention; nothing to do for modules that call `attend` themselves."""
    module = attention.module
    present = getattr(module, "processor", None)
    if isinstance(present, PLAIN):
        return partial(_set_processor, module, AttendProcessor(backend))
    if isinstance(present, ADDED_KV):
        return partial(_set_processor, module, AttendAddedKVProcessor(backend))
    if isinstance(module, AttentionPooling):
        return partial(_pool, module, Route(backend))
    if attention.way == "torch":
        return partial(_tell if is_of_transformers(module) else _route, module, backend)
    if attention.way == "attend":
        return lambda: None
    raise ModelError(
        f"attention {attention.name}",
        expected="plain or added-key attention, or one that calls torch's scaled_dot_product_attention",
        got=attention.kind,
    )


def _set_processor(module: Any, processor: AttendProcessor | AttendAddedKVProcessor) -> None:
    module.__class__ = stock_class(module)
    module.set_processor(processor)


def _tell(module: Any, backend: str) -> None:
    from shared.attention.routing.interface import InterfaceRoute

    module.route = InterfaceRoute(backend)


def _pool(module: Any, route: Route) -> None:
    module.__class__ = AttendPooling
    module.route = route


def _route(module: Any, backend: str) -> None:
    processor: Any = getattr(module, "processor", None)
    if hasattr(processor, "_attention_backend"):
        processor._attention_backend = AttentionBackendName.NATIVE  # diffusers' name of torch's call
    route_through(module, Route(backend))

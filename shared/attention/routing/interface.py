"""transformers' attention through `attend`, by transformers' own table of attention functions (`AttentionInterface`).

A model's configuration names the function; each of its attention modules calls it and says which module it is, whose
`route` tells the backend. It computes what "sdpa" does, masks included, with torch's call answered. Importing this
module makes the entry.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from shared.attention.routing.route import Route
from shared.attention.routing.torch_call import ThroughAttend
from shared.attention.routing.walk import INTERFACE
from shared.errors import ModelError


class InterfaceRoute(Route):
    """A route of one attention module, which brings this module, and so the entry, to where it is unpickled."""


def attention_function(module: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """transformers' attention function "sdpa", by `module.route`.

    A model that was made from another one's configuration names this function as well, and has no routes yet.
    """
    if not hasattr(module, "route"):
        module.route = InterfaceRoute()
    with ThroughAttend(module.route):
        return sdpa_attention_forward(module, *args, **kwargs)


def check_takes_sdpa(model: Any) -> None:
    """Raises ModelError for a model of transformers that knows no attention but its own."""
    try:
        model.get_correct_attn_implementation(INTERFACE)
    except (ValueError, ImportError) as error:
        name = type(model).__name__
        raise ModelError(f"attention of {name}", expected="that of transformers' sdpa", got=str(error)) from error


AttentionInterface.register(INTERFACE, attention_function)
AttentionMaskInterface.register(INTERFACE, sdpa_mask)

"""torch's own attention call, answered by `attend`.

Nearly every stock network ends in `torch.nn.functional.scaled_dot_product_attention`: processors call it, diffusers'
dispatcher does, transformers' "sdpa" does. diffusers' registry takes no further kernel, so the call itself is
answered, within a `with` block and nowhere else: `ThroughAttend` is torch's own means for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, no_type_check

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from shared.attention.routing.route import Route
from shared.errors import ModelError

STOCK_CALL = functional.scaled_dot_product_attention


class ThroughAttend(TorchFunctionMode):
    """While entered, torch's scaled_dot_product_attention is `attend` in this thread."""

    def __init__(self, route: Route) -> None:
        super().__init__()
        self.route = route

    @no_type_check  # by the test run, which would check it at every call of torch
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not STOCK_CALL:
            return func(*args, **(kwargs or {}))
        return attend_as_torch(self.route, *args, **(kwargs or {}))


def attend_as_torch(
    route: Route,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention` by `route`; torch's arguments, meanings and shapes.

    query, key, value: "... n d" with up to two axes before, which broadcast.
    Raises ModelError for dropout, which `attend` does not have.
    """
    if dropout_p:
        raise ModelError("attention", expected="no dropout of its weights", got=f"{dropout_p:g}")
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], dim=-3) for x in (key, value))
    before = torch.broadcast_shapes(*(x.shape[:-2] for x in (query, key, value)))
    q, k, v = (_four(x.expand(*before, *x.shape[-2:])) for x in (query, key, value))
    out = route.attend(q, k, v, mask=None if attn_mask is None else _four(attn_mask), scale=scale)
    return out.reshape(*before, *out.shape[-2:])


def _four(x: Tensor) -> Tensor:
    """x with axes of length 1 before its own, four in all."""
    return x[(None,) * (4 - x.ndim)]

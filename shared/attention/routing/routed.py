"""diffusers' attention modules that end in torch's attention call, with the call answered by `attend`.

A module keeps its weights, its names, its processor and all that diffusers does with them. Only its class changes, to
one that is derived from it: what torch's `parametrize` does, too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn

from shared.attention.routing.route import Route
from shared.attention.routing.torch_call import ThroughAttend
from shared.errors import ModelError


class Routed(nn.Module):
    """Put before a stock class: its forward, attending by `route`.

    Raises ModelError where the stock forward then attends in another way, as with a processor that was set since.
    """

    route: Route

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        before = self.route.calls
        with ThroughAttend(self.route):
            out = super().forward(*args, **kwargs)
        if self.route.calls == before:
            raise ModelError(
                f"attention {type(self).__name__}",
                expected="a call of torch's scaled_dot_product_attention",
                got="none",
                hint="Call install_attention after other changes to the network",
            )
        return out

    def __reduce__(self) -> tuple[Any, ...]:
        return _new, (stock_class(self),), self.__dict__  # the class itself has no importable name


def route_through(module: Any, route: Route) -> None:
    """Make `module` attend by `route`."""
    module.__class__ = _routed_class(stock_class(module))
    module.route = route


def stock_class(module: nn.Module) -> Any:
    """The module's class without `Routed`."""
    return type(module).__bases__[1] if isinstance(module, Routed) else type(module)


@cache
def _routed_class(stock: Any) -> Any:
    return type(stock.__name__, (Routed, stock), {"__module__": stock.__module__, "__doc__": stock.__doc__})


def _new(stock: Any) -> Any:
    made = _routed_class(stock)
    return made.__new__(made)

"""Work on many tokens, some at a time: what is wide on the way is held for one part alone, and stays in the caches."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention import FeedForward
from jaxtyping import Float
from torch import Tensor, nn

PART = 2**22  # numbers of the widest features of a part: 16 MiB in float32


def tokens_at_once(width: int) -> int:
    """How many tokens of `width` numbers, where they are widest, make a part."""
    return max(1, PART // width)


class PartedFeedForward(FeedForward):
    """diffusers' feed-forward layer, whose instances become this class: a part of the tokens after the other.

    Beyond rounding the result is the same. Without parts the layer is what takes most memory in a transformer block:
    its hidden features are eight times as wide as what it is given (Kitaev et al. 2020, "Reformer", section 3).
    """

    def forward(self, hidden_states: Float[Tensor, "*batch c"], *args: object, **kwargs: object) -> Tensor:
        tokens = hidden_states.flatten(0, -2)
        first: Any = self.net[0]
        parts = tokens.split(tokens_at_once(first.proj.out_features))
        if len(parts) == 1:
            return super().forward(hidden_states)
        out = torch.cat([super(PartedFeedForward, self).forward(part) for part in parts])
        return out.unflatten(0, hidden_states.shape[:-1])


def feed_forward_by_parts(network: nn.Module) -> None:
    """Let the feed-forward layers of a diffusers network work by parts. Weights and their names stay."""
    module: Any
    for module in network.modules():
        if type(module) is FeedForward and hasattr(module.net[0], "proj"):
            module.__class__ = PartedFeedForward

"""What lies behind the object.

The embedded prior has only seen uniform grey behind objects, so a grey drawn anew for each view is the default; it
also keeps the field from painting a background into its density. The network (DreamFusion, section 3.1) is for priors
that expect surroundings.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

GREY_RANGE = (0.25, 0.75)


def random_grey(count: int, generator: torch.Generator | None = None) -> Float[Tensor, "views 3"]:
    """One grey for each view, uniform over GREY_RANGE."""
    low, high = GREY_RANGE
    return (low + (high - low) * torch.rand(count, 1, generator=generator)).expand(count, 3)


class BackgroundNetwork(nn.Module):
    """Colour of the surroundings in each direction: RGB in (0, 1).

    frequencies: octaves of the sinusoidal encoding of the direction; few, so that it cannot draw the object itself.
    """

    def __init__(self, frequencies: int = 3, hidden: int = 32, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.first = nn.Linear(6 * frequencies, hidden)
        self.last = nn.Linear(hidden, 3)
        with torch.no_grad():
            for layer in (self.first, self.last):
                scale = (1.0 / layer.in_features) ** 0.5
                layer.weight.copy_(scale * torch.randn(layer.weight.shape, generator=generator))
                layer.bias.zero_()

    def forward(self, directions: Float[Tensor, "rays 3"]) -> Float[Tensor, "rays 3"]:
        octaves = 2.0 ** torch.arange(self.frequencies, device=directions.device, dtype=directions.dtype)
        angles = (directions[:, None] * octaves[:, None]).flatten(1)
        encoded = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return torch.sigmoid(self.last(torch.relu(self.first(encoded))))

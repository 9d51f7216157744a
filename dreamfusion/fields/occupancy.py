"""Where a field is empty, coarsely, so that rendering need not ask.

A cell counts as empty when the density at its centre and at those of its 26 neighbours stays below a threshold; what
lies there is then treated as density 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from dreamfusion.fields.field import Field, device_of


@dataclass(frozen=True)
class OccupancyGrid:
    """cells: which of the n^3 equal cells of [-radius, radius]^3 may hold density, indexed [x, y, z]."""

    cells: Bool[Tensor, "n n n"]
    radius: float

    def __call__(self, points: Float[Tensor, "p 3"]) -> Bool[Tensor, " p"]:
        """Whether each point lies in an occupied cell; points outside of the cube count by the nearest cell."""
        n = self.cells.shape[0]
        index = ((points + self.radius) * (n / (2 * self.radius))).long().clamp_(0, n - 1)
        return self.cells.view(-1)[(index[:, 0] * n + index[:, 1]) * n + index[:, 2]]

    @property
    def occupied_fraction(self) -> float:
        """Share of the cells that are occupied, in [0, 1]."""
        return float(self.cells.float().mean())


@torch.no_grad()
def cell_densities(field: Field, resolution: int) -> Float[Tensor, "n n n"]:
    """The field's density at the centres of resolution^3 cells, indexed [x, y, z]."""
    device = device_of(field)
    axis = (torch.arange(resolution, device=device) + 0.5) * (2 * field.radius / resolution) - field.radius
    rows = []
    for x in axis:  # slabs, so that memory stays small at any resolution
        yz = torch.cartesian_prod(axis, axis)
        rows.append(field.density(torch.cat([x.expand(len(yz), 1), yz], dim=-1)))
    return torch.stack(rows).view(resolution, resolution, resolution)


def occupancy_of(field: Field, *, resolution: int = 32, threshold: float = 0.2) -> OccupancyGrid:
    """The cells around every one whose centre has a density above `threshold` (1 / world unit)."""
    dense = (cell_densities(field, resolution) > threshold).float()
    grown = functional.max_pool3d(dense[None, None], kernel_size=3, stride=1, padding=1)[0, 0]
    return OccupancyGrid(grown > 0, field.radius)

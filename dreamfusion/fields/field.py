"""Radiance fields: a density and an albedo at every point of a cube.

radius r  the field lives in [-r, r]^3 (world units).
mu        a point of it, "p 3".
tau       density at mu, in 1 / world unit, >= 0.
rho       albedo at mu, display-referred RGB in (0, 1).

A field is a protocol: anything with these members can be rendered, distilled and meshed. Two come with the project,
both fast on a CPU: `TriplaneField` (three feature planes and a small network) and `GridField` (a sum of grids of
doubling resolution that holds density and albedo directly).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

# Density where the activation's input is 1: a ray crosses 0.05 world units of it with 1 - exp(-1.25) = 71% absorbed.
DENSITY_SCALE = 25.0


@runtime_checkable
class Field(Protocol):
    """Density and albedo over [-radius, radius]^3."""

    radius: float

    def __call__(self, points: Float[Tensor, "p 3"]) -> tuple[Float[Tensor, " p"], Float[Tensor, "p 3"]]:
        """(density, albedo) at world points; points outside of the cube take the nearest value inside."""
        ...

    def density(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        """The density alone."""
        ...


@runtime_checkable
class TrainableField(Field, Protocol):
    """A field that distillation can optimise."""

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Its parameters with their learning rates, for torch optimizers."""
        ...


@runtime_checkable
class BendingField(Field, Protocol):
    """A field that can say how far what it holds is from flat, as a number to keep small."""

    def bending(self) -> Float[Tensor, ""]:
        """See `bending`."""
        ...


def device_of(field: Field) -> torch.device:
    """Where a field computes: that of its parameters, or the CPU when it has none."""
    parameters = getattr(field, "parameters", None)
    return next((p.device for p in parameters()), torch.device("cpu")) if parameters else torch.device("cpu")


def density_blob(
    points: Float[Tensor, "p 3"], strength: float, width: float, floor: float = -6.0
) -> Float[Tensor, " p"]:
    """What is added to the density's activation input: an empty scene with something in the middle.

    DreamFusion (appendix A.2) adds a Gaussian bump to the density so that the first steps have something to shape
    between camera and background; this is Magic3D's cone, strength (1 - |mu| / width), which also empties
    the space around it. It is cut off at `floor`, where softplus still has a gradient.
    """
    return (strength * (1 - points.norm(dim=-1) / width)).clamp(min=floor)


def activate(raw: Float[Tensor, "p 4"], blob: Float[Tensor, " p"]) -> tuple[Float[Tensor, " p"], Float[Tensor, "p 3"]]:
    """tau = DENSITY_SCALE softplus(raw_0 + blob) / softplus(1) and rho = sigmoid(raw_1..3), of raw outputs."""
    density = functional.softplus(raw[:, 0] + blob) * (DENSITY_SCALE / 1.3132617)
    return density, torch.sigmoid(raw[:, 1:])


def level_sizes(resolution: int, levels: int) -> list[int]:
    """Sizes of `levels` grids, each twice the one before, up to `resolution`."""
    return [max(resolution >> (levels - 1 - level), 2) for level in range(levels)]


def sum_of_levels(grids: Iterable[Tensor], mode: Literal["bilinear", "trilinear"]) -> Tensor:
    """All grids added up at the resolution of the last, coarse to fine."""
    total, *finer = grids
    for grid in finer:
        total = grid + functional.interpolate(total, size=grid.shape[2:], mode=mode, align_corners=True)
    return total


def bending(grid: Float[Tensor, "n c *sizes"]) -> Float[Tensor, ""]:
    """Mean square of second differences along each axis of a grid, added up: ripples count, slopes do not."""
    axes = range(2, grid.ndim)
    return torch.stack([grid.diff(n=2, dim=axis).square().mean() for axis in axes]).sum()


class TriplaneField(nn.Module):
    """Features of three axis-aligned planes, summed, through a network of one hidden layer.

    Each plane is a sum of grids of doubling resolution: the coarse ones move large regions at once, which keeps
    surfaces smooth.

    channels: of each plane. resolution, levels: of the finest grid, and how many there are.
    hidden: width of the network.
    blob_strength, blob_width: see `density_blob`.
    generator: draws the initial weights.
    """

    def __init__(
        self,
        radius: float,
        *,
        resolution: int = 48,
        levels: int = 3,
        channels: int = 16,
        hidden: int = 32,
        blob_strength: float = 4.0,
        blob_width: float = 0.6,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.radius = radius
        self.blob_strength, self.blob_width = blob_strength, blob_width
        self.planes = nn.ParameterList(
            0.1 * torch.randn(3, channels, size, size, generator=generator) / 2**level
            for level, size in enumerate(level_sizes(resolution, levels))
        )
        self.first = nn.Linear(channels, hidden)
        self.last = nn.Linear(hidden, 4)
        with torch.no_grad():
            for layer, gain in ((self.first, 2.0), (self.last, 0.5)):  # He; then a small start near the blob alone
                scale = (gain / layer.in_features) ** 0.5
                layer.weight.copy_(scale * torch.randn(layer.weight.shape, generator=generator))
                layer.bias.zero_()

    def raw(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p 4"]:
        """The network's outputs before activation."""
        uv = points / self.radius
        places = torch.stack([uv[:, [0, 1]], uv[:, [2, 1]], uv[:, [0, 2]]])[:, None]
        planes = sum_of_levels(self.planes, "bilinear")
        features = functional.grid_sample(planes, places, padding_mode="border", align_corners=True)
        return self.last(functional.relu(self.first(features[:, :, 0].sum(dim=0).T)))

    def forward(self, points: Float[Tensor, "p 3"]) -> tuple[Float[Tensor, " p"], Float[Tensor, "p 3"]]:
        return activate(self.raw(points), density_blob(points, self.blob_strength, self.blob_width))

    def density(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        return self(points)[0]

    def bending(self) -> Float[Tensor, ""]:
        """Of the planes."""
        return bending(sum_of_levels(self.planes, "bilinear"))

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Each level learns at half the rate of the one before; the network at a tenth."""
        planes = [{"params": [plane], "lr": learning_rate / 2**level} for level, plane in enumerate(self.planes)]
        network = [*self.first.parameters(), *self.last.parameters()]
        return [*planes, {"params": network, "lr": learning_rate / 10}]


class GridField(nn.Module):
    """Density and albedo, before activation, as a sum of trilinear grids of doubling resolution.

    Coarse levels move large regions at once, which plays the part of the smoothness that a network has.

    resolution: of the finest grid. levels: how many, each half as fine as the next.
    """

    def __init__(
        self,
        radius: float,
        *,
        resolution: int = 64,
        levels: int = 4,
        blob_strength: float = 4.0,
        blob_width: float = 0.6,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.radius = radius
        self.blob_strength, self.blob_width = blob_strength, blob_width
        self.grids = nn.ParameterList(
            0.01 * torch.randn(1, 4, size, size, size, generator=generator) for size in level_sizes(resolution, levels)
        )

    def raw(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p 4"]:
        """The values before activation."""
        places = (points / self.radius)[None, None, None]
        volume = sum_of_levels(self.grids, "trilinear")
        values = functional.grid_sample(volume, places, padding_mode="border", align_corners=True)
        return values[0, :, 0, 0].T

    def forward(self, points: Float[Tensor, "p 3"]) -> tuple[Float[Tensor, " p"], Float[Tensor, "p 3"]]:
        return activate(self.raw(points), density_blob(points, self.blob_strength, self.blob_width))

    def density(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
        return self(points)[0]

    def bending(self) -> Float[Tensor, ""]:
        """Of the grid."""
        return bending(sum_of_levels(self.grids, "trilinear"))

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Every level learns at the same rate."""
        return [{"params": [*self.grids], "lr": learning_rate}]

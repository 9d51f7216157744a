"""Radiance fields whose shape, volume and colour are known exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SolidField(nn.Module):
    """A solid given by its signed distance: `peak` dense inside, falling off over `width` world units at the surface.

    The surface is where the density is peak / 2. Colour follows position, so that it can be checked anywhere.
    """

    def __init__(self, distance, radius: float = 1.2, peak: float = 200.0, width: float = 0.01) -> None:
        super().__init__()
        self.distance, self.radius, self.width = distance, radius, width
        self.peak = nn.Parameter(torch.tensor(peak))
        self.size = nn.Parameter(torch.tensor(0.0))  # moves the surface outwards

    def density(self, points: Tensor) -> Tensor:
        return self.peak * torch.sigmoid((self.size - self.distance(points)) / self.width)

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return self.density(points), colour_at(points)

    def parameter_groups(self, learning_rate: float) -> list[dict]:
        return [{"params": list(self.parameters()), "lr": learning_rate}]


def colour_at(points: Tensor) -> Tensor:
    return (points * 0.4 + 0.5).clamp(0, 1)


def sphere(radius: float = 0.8, centre=(0.0, 0.0, 0.0)):
    return lambda p: (p - p.new_tensor(centre)).norm(dim=-1) - radius


def box(half=(0.6, 0.45, 0.3)):
    def distance(p: Tensor) -> Tensor:
        q = p.abs() - p.new_tensor(half)
        return q.clamp(min=0).norm(dim=-1) + q.amax(dim=-1).clamp(max=0)

    return distance


def torus(ring: float = 0.6, tube: float = 0.22):
    return lambda p: torch.hypot(torch.hypot(p[:, 0], p[:, 2]) - ring, p[:, 1]) - tube


VOLUMES = {
    "sphere": (sphere(), 4 / 3 * math.pi * 0.8**3),
    "box": (box(), 8 * 0.6 * 0.45 * 0.3),
    "torus": (torus(), 2 * math.pi**2 * 0.6 * 0.22**2),
}

"""Signed distance functions of simple solids.

Every function takes points `p` of shape "... 3" (world units, y up) and returns signed distances "...": negative
inside, zero on the surface, never larger than the true distance (so sphere tracing cannot step through).
The formulas are the classic ones of Hart 1996 ("Sphere tracing") and Quilez ("Distance functions").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Sdf = Callable[[Float[Tensor, "... 3"]], Float[Tensor, "..."]]


def _length(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y)


def sphere(radius: float, centre: Sequence[float] = (0, 0, 0)) -> Sdf:
    c = torch.tensor(centre, dtype=torch.float32)
    return lambda p: (p - c).norm(dim=-1) - radius


def ellipsoid(radii: Sequence[float], centre: Sequence[float] = (0, 0, 0)) -> Sdf:
    """A lower bound of the distance: the unit ball scaled by `radii`, corrected by the smallest radius outside."""
    r, c, smallest = torch.tensor(radii), torch.tensor(centre, dtype=torch.float32), min(radii)
    return lambda p: (((p - c) / r).norm(dim=-1) - 1) * smallest


def box(half: Sequence[float], centre: Sequence[float] = (0, 0, 0), rounding: float = 0.0) -> Sdf:
    """A box of half sizes `half`, edges rounded by `rounding` (the outer size stays the same)."""
    h, c = torch.tensor(half, dtype=torch.float32) - rounding, torch.tensor(centre, dtype=torch.float32)

    def distance(p: Tensor) -> Tensor:
        q = (p - c).abs() - h
        return q.clamp(min=0).norm(dim=-1) + q.amax(dim=-1).clamp(max=0) - rounding

    return distance


def cylinder(radius: float, half_height: float, centre: Sequence[float] = (0, 0, 0), axis: int = 1) -> Sdf:
    """A capped cylinder along `axis` (0 = x, 1 = y, 2 = z)."""
    c = torch.tensor(centre, dtype=torch.float32)
    u, v = [i for i in range(3) if i != axis]

    def distance(p: Tensor) -> Tensor:
        q = p - c
        radial, along = _length(q[..., u], q[..., v]) - radius, q[..., axis].abs() - half_height
        inside = torch.maximum(radial, along).clamp(max=0)
        return inside + _length(radial.clamp(min=0), along.clamp(min=0))

    return distance


def cone(bottom: float, top: float, half_height: float, centre: Sequence[float] = (0, 0, 0), axis: int = 1) -> Sdf:
    """A capped cone along `axis` whose radius runs from `bottom` (negative end) to `top` (positive end)."""
    c = torch.tensor(centre, dtype=torch.float32)
    u, v = [i for i in range(3) if i != axis]
    slope_x, slope_y = top - bottom, 2 * half_height
    slope_squared = slope_x**2 + slope_y**2

    def distance(p: Tensor) -> Tensor:
        q = p - c
        r, y = _length(q[..., u], q[..., v]), q[..., axis]
        cap_radius = torch.where(y < 0, torch.full_like(y, bottom), torch.full_like(y, top))
        cap_x, cap_y = (r - torch.minimum(r, cap_radius)), y.abs() - half_height
        along = (((top - r) * slope_x + (half_height - y) * slope_y) / slope_squared).clamp(0, 1)
        side_x, side_y = r - top + slope_x * along, y - half_height + slope_y * along
        sign = torch.where((side_x < 0) & (cap_y < 0), -1.0, 1.0)
        return sign * torch.sqrt(torch.minimum(cap_x**2 + cap_y**2, side_x**2 + side_y**2))

    return distance


def torus(major: float, minor: float, centre: Sequence[float] = (0, 0, 0), axis: int = 1) -> Sdf:
    c = torch.tensor(centre, dtype=torch.float32)
    u, v = [i for i in range(3) if i != axis]

    def distance(p: Tensor) -> Tensor:
        q = p - c
        return _length(_length(q[..., u], q[..., v]) - major, q[..., axis]) - minor

    return distance


def capsule(start: Sequence[float], end: Sequence[float], radius: float) -> Sdf:
    """All points within `radius` of the segment from `start` to `end`."""
    a, b = torch.tensor(start, dtype=torch.float32), torch.tensor(end, dtype=torch.float32)
    segment = b - a
    squared = float(segment @ segment)

    def distance(p: Tensor) -> Tensor:
        q = p - a
        along = ((q @ segment) / squared).clamp(0, 1)
        return (q - along[..., None] * segment).norm(dim=-1) - radius

    return distance


def prism_roof(half_width: float, height: float, half_depth: float, centre: Sequence[float] = (0, 0, 0)) -> Sdf:
    """A gable roof: a triangle of base 2 half_width and `height` in x-y, extruded by half_depth; base at y = 0."""
    c = torch.tensor(centre, dtype=torch.float32)
    norm = math.hypot(half_width, height)
    nx, ny = height / norm, half_width / norm

    def distance(p: Tensor) -> Tensor:
        q = p - c
        slope = q[..., 0].abs() * nx + q[..., 1] * ny - half_width * nx
        return torch.maximum(torch.maximum(slope, -q[..., 1]), q[..., 2].abs() - half_depth)

    return distance


def union(*solids: Sdf) -> Sdf:
    def distance(p: Tensor) -> Tensor:
        result = solids[0](p)
        for solid in solids[1:]:
            result = torch.minimum(result, solid(p))
        return result

    return distance


def subtract(solid: Sdf, hole: Sdf) -> Sdf:
    """`solid` without `hole` (a lower bound of the distance)."""
    return lambda p: torch.maximum(solid(p), -hole(p))


def turned(solid: Sdf, degrees: float, axis: int, pivot: Sequence[float] = (0, 0, 0)) -> Sdf:
    """`solid` rotated by `degrees` about `axis` through `pivot` (right-hand rule)."""
    c, angle = torch.tensor(pivot, dtype=torch.float32), math.radians(degrees)
    u, v = [(1, 2), (2, 0), (0, 1)][axis]
    rotation = torch.eye(3)
    rotation[u, u] = rotation[v, v] = math.cos(angle)
    rotation[u, v], rotation[v, u] = -math.sin(angle), math.sin(angle)
    # Points are turned the other way: p @ R equals R^T p for row vectors.
    return lambda p: solid((p - c) @ rotation + c)

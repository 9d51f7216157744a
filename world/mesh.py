"""Exact geometry as triangles: marching cubes over the distance to a scene."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8
from skimage.measure import marching_cubes
from torch import Tensor

from shared.errors import InputError
from world.objects import COLOURS
from world.scene import Instance, objects_by_name, scene_distance, to_local

LARGEST_RADIUS = 1.25  # of an object at scale 1 around its own origin
CHUNK = 1 << 18  # points evaluated at once


def scene_mesh(instances: tuple[Instance, ...], resolution: int = 96) -> trimesh.Trimesh:
    """The union of `instances` as one closed mesh with vertex colours; y up, front +z, faces wound outwards.

    resolution: cells along the longest edge of the scene's bounding box, at least 8.

    Raises InputError for an empty scene or a smaller resolution.
    """
    if not instances:
        raise InputError("scene", expected="at least one object", got="none")
    if resolution < 8:
        raise InputError("mesh resolution", expected="8 or more", got=resolution)
    low, high = _bounds(instances)
    cell = float((high - low).max()) / resolution
    # Air all round, and no grid plane exactly on a box's face: a distance of zero makes needle triangles.
    low = low - 1.37 * cell
    counts = [int(c) for c in torch.ceil((high - low + 1.37 * cell) / cell) + 1]
    axes = [low[i] + cell * torch.arange(counts[i]) for i in range(3)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    distance = _union_distance(instances, grid.view(-1, 3)).view(counts)
    vertices, faces, _, _ = marching_cubes(distance.numpy(), 0.0, gradient_direction="descent")
    points = torch.from_numpy(np.ascontiguousarray(vertices)).float() * cell + low
    return trimesh.Trimesh(points.numpy(), faces, vertex_colors=surface_colours(instances, points), process=True)


@torch.no_grad()
def surface_colours(instances: tuple[Instance, ...], points: Float[Tensor, "p 3"]) -> UInt8[np.ndarray, "p 4"]:
    """RGBA of the part that is nearest to each point."""
    nearest = scene_distance(instances, points).argmin(dim=-1)
    colours = torch.ones(len(points), 4)
    for index, instance in enumerate(instances):
        mine = nearest == index
        obj = objects_by_name()[instance.obj]
        part = obj.nearest_part(to_local(points[mine], instance))
        colours[mine, :3] = obj.palette(COLOURS[instance.colour])[part]
    return (colours * 255).round().to(torch.uint8).numpy()


@torch.no_grad()
def _union_distance(instances: tuple[Instance, ...], points: Float[Tensor, "p 3"]) -> Float[Tensor, " p"]:
    return torch.cat([scene_distance(instances, part).amin(dim=-1) for part in points.split(CHUNK)])


def _bounds(instances: tuple[Instance, ...], steps: int = 40) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """A box that holds the scene, tight to 1/steps of its size.

    Distances are lower bounds, so a coarse cell further from the scene than its own half diagonal is empty.
    """
    centres = torch.tensor([i.position for i in instances])
    reach = torch.tensor([[i.scale * LARGEST_RADIUS] for i in instances])
    low, high = (centres - reach).amin(dim=0), (centres + reach).amax(dim=0)
    cell = (high - low) / steps
    index = torch.stack(torch.meshgrid(*[torch.arange(steps)] * 3, indexing="ij"), dim=-1).view(-1, 3)
    middle = low + (index + 0.5) * cell
    full = middle[_union_distance(instances, middle) <= cell.norm() / 2]
    return full.amin(dim=0) - cell / 2, full.amax(dim=0) + cell / 2

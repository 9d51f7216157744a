"""How close a mesh comes to exact world geometry.

A  the exact solid: distance(p) < 0.        B  the mesh, moved by a similarity p -> s R(yaw) p + t.

All measures are taken after the similarity that makes the volumes of A and B overlap most: a prompt says nothing of
size, place, or (for things without a front) direction. Lengths are in world units: objects fill the unit ball.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from jaxtyping import Bool, Float
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from dreamfusion.mesh.raster import rasterise
from shared.cameras import Cameras, orbit

# Points "p 3" to signed distances " p", negative inside.
Distance = Callable[[np.ndarray], np.ndarray]
REACH = 1.3  # half the edge of the cube in which volumes are compared


@dataclass(frozen=True)
class Similarity:
    """p -> scale R p + shift; R turns by `yaw` degrees about y, +z towards +x."""

    scale: float = 1.0
    yaw: float = 0.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def rotation(self) -> Float[np.ndarray, "3 3"]:
        cos, sin = math.cos(math.radians(self.yaw)), math.sin(math.radians(self.yaw))
        return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])

    def apply(self, points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "p 3"]:
        return self.scale * points @ self.rotation.T + np.array(self.shift)

    def undo(self, points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "p 3"]:
        return (points - np.array(self.shift)) @ self.rotation / self.scale

    def moved(self, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
        """A copy of the mesh in its new place, colours kept."""
        copy = mesh.copy()
        copy.vertices = self.apply(np.asarray(mesh.vertices))
        return copy


class Solid:
    """The inside of a closed mesh: filled cells of a grid with `resolution` of them along the longest edge."""

    def __init__(self, mesh: trimesh.Trimesh, resolution: int = 64) -> None:
        low, high = np.asarray(mesh.bounds)
        self.cell = float((high - low).max()) / resolution
        self.low = low - 2 * self.cell
        shape = tuple(np.ceil((high - low) / self.cell).astype(int) + 4)
        self.filled = _fill(np.asarray(mesh.triangles), self.low, self.cell, shape)

    def __call__(self, points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, " p"]:
        """In [0, 1], between cells in straight lines; 0 outside of the grid."""
        places = (points - self.low) / self.cell - 0.5
        return map_coordinates(self.filled.astype(np.float32), places.T, order=1, cval=0.0, prefilter=False)

    @property
    def centroid(self) -> Float[np.ndarray, " 3"]:
        return self.low + self.cell * (np.argwhere(self.filled).mean(axis=0) + 0.5)

    @property
    def volume(self) -> float:
        return float(self.filled.sum()) * self.cell**3


def _fill(
    triangles: Float[np.ndarray, "f 3 3"], low: Float[np.ndarray, " 3"], cell: float, shape: tuple[int, ...]
) -> Bool[np.ndarray, "x y z"]:
    """Cells whose centre is inside: along a line in +y, a point is inside after an odd number of crossings."""
    # Lines through cell centres, set off by a hair so that none meets an edge of a tidy mesh.
    places = (triangles - low) / cell - 0.5 - np.array([3.1e-5, 0.0, 1.7e-5])
    x, z = places[..., 0], places[..., 2]
    first = np.ceil(np.stack([x.min(1), z.min(1)], 1)).astype(int)
    count = np.maximum(np.floor(np.stack([x.max(1), z.max(1)], 1)).astype(int) - first + 1, 0)
    total = count.prod(axis=1)
    face = np.repeat(np.arange(len(places)), total)
    index = np.arange(len(face)) - np.repeat(total.cumsum() - total, total)
    column = first[face] + np.stack([index % np.maximum(count[face, 0], 1), index // np.maximum(count[face, 0], 1)], 1)
    corner = np.stack([x, z], axis=-1)[face]
    edge = np.roll(corner, -1, axis=1) - corner
    to = column[:, None] - corner
    side = (
        edge[..., 0] * to[..., 1] - edge[..., 1] * to[..., 0]
    )  # of each corner to the next: the weight of the corner after that
    hit = (side >= 0).all(axis=1) | (side <= 0).all(axis=1)
    hit &= side.sum(axis=1) != 0
    weights = np.roll(side[hit], -1, axis=1) / side[hit].sum(axis=1, keepdims=True)
    height = (weights * places[face[hit], :, 1]).sum(axis=1)
    crossings = np.zeros((shape[0], shape[1] + 1, shape[2]), dtype=np.int32)
    above = np.clip(np.ceil(height).astype(int), 0, shape[1])
    np.add.at(crossings, (column[hit, 0], above, column[hit, 1]), 1)
    return crossings[:, :-1].cumsum(axis=1) % 2 == 1


def sample_cube(per_edge: int, reach: float = REACH, seed: int = 0) -> Float[np.ndarray, "p 3"]:
    """One random point in each of per_edge^3 cells of the cube [-reach, reach]^3."""
    grid = np.stack(np.meshgrid(*[np.arange(per_edge)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return (grid + np.random.default_rng(seed).random(grid.shape)) * (2 * reach / per_edge) - reach


def volumetric_iou(distance: Distance, solid: Solid, pose: Similarity, points: Float[np.ndarray, "p 3"]) -> float:
    """Volume of the intersection over that of the union. The exact solid lies in the cube of `points`."""
    return _overlap((distance(points) < 0).astype(np.float32), solid, pose, points)


def _overlap(inside: np.ndarray, solid: Solid, pose: Similarity, points: Float[np.ndarray, "p 3"]) -> float:
    """The intersection by counting points, which all lie in the cube; the mesh, which need not, by its own volume."""
    cell = (2 * REACH) ** 3 / len(points)
    both = float(np.minimum(inside, solid(pose.undo(points))).sum()) * cell
    return both / max(float(inside.sum()) * cell + solid.volume * pose.scale**3 - both, 1e-9)


def align(
    distance: Distance, mesh: trimesh.Trimesh, *, per_edge: int = 26, yaws: int = 24, refined: int = 4
) -> Similarity:
    """The similarity of `mesh` with the largest volume in common with the exact solid.

    Every yaw of an even set is tried with centres and volumes matched; the best few are refined in all five numbers.
    """
    solid = Solid(mesh)
    points = sample_cube(per_edge)
    inside = (distance(points) < 0).astype(np.float32)
    assert inside.any(), "the exact solid is not in the cube"
    centre = points[inside > 0].mean(axis=0)
    volume = float(inside.mean()) * (2 * REACH) ** 3
    scale = (volume / max(solid.volume, 1e-6)) ** (1 / 3)

    def pose_of(x: np.ndarray) -> Similarity:
        """x: log of the scale over the first guess, yaw / 100 degrees, and where the mesh's centroid goes."""
        turned = Similarity(scale * math.exp(x[0]), 100 * float(x[1]))
        shift = x[2:] - turned.apply(solid.centroid[None])[0]
        return Similarity(turned.scale, turned.yaw, (float(shift[0]), float(shift[1]), float(shift[2])))

    def loss(x: np.ndarray) -> float:
        return -_overlap(inside, solid, pose_of(x), points)

    starts = [np.array([0.0, 3.6 * i / yaws, *centre]) for i in range(yaws)]
    steps = np.array([0.12, 0.08, 0.06, 0.06, 0.06])
    found = []
    for start in sorted(starts, key=loss)[:refined]:
        simplex = np.vstack([start, *(start + steps * row for row in np.eye(5))])
        options = {"initial_simplex": simplex, "maxiter": 160, "xatol": 1e-3, "fatol": 1e-4}
        found.append(minimize(loss, start, method="Nelder-Mead", options=options))
    best = pose_of(min(found, key=lambda result: result.fun).x)
    return Similarity(best.scale, (best.yaw + 180) % 360 - 180, best.shift)


def held_out_cameras(size: int = 128) -> Cameras:
    """Eight views around, none of which any part of the project uses: azimuths 22.5 + 45 i, elevations 12 and 33."""
    return orbit([22.5 + 45 * i for i in range(8)], [12.0, 33.0] * 4, height=size, width=size)


def mesh_silhouettes(mesh: trimesh.Trimesh, cameras: Cameras) -> Bool[np.ndarray, "n h w"]:
    """Pixels whose centre's ray meets the mesh."""
    vertices = torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32)
    faces = torch.tensor(np.asarray(mesh.faces), dtype=torch.int64)
    return np.stack([(rasterise(vertices, faces, cameras[i]).face >= 0).numpy() for i in range(len(cameras))])


def exact_silhouettes(distance: Distance, cameras: Cameras, *, steps: int = 96) -> Bool[np.ndarray, "n h w"]:
    """Pixels whose centre's ray meets the solid, by sphere tracing through the ball of radius REACH sqrt 3."""
    origins, directions = (r.reshape(-1, 3).double().numpy() for r in cameras.rays())
    radius = REACH * math.sqrt(3)
    middle = -(origins * directions).sum(axis=1)
    missed_by = ((origins + middle[:, None] * directions) ** 2).sum(axis=1)
    reach = np.sqrt(np.maximum(radius**2 - missed_by, 0))
    t, end = middle - reach, middle + reach
    hit = np.zeros(len(t), dtype=bool)
    active = np.flatnonzero(reach > 0)
    for _ in range(steps):
        if not len(active):
            break
        d = distance(origins[active] + t[active, None] * directions[active])
        hit[active[d < 1e-3]] = True
        t[active] += d
        active = active[(d >= 1e-3) & (t[active] < end[active])]
    return hit.reshape(len(cameras), cameras.height, cameras.width)


def silhouette_iou(a: Bool[np.ndarray, "n h w"], b: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, " n"]:
    """Intersection over union of each view; 0 where both are empty."""
    both, either = (a & b).sum(axis=(1, 2)), (a | b).sum(axis=(1, 2))
    return both / np.maximum(either, 1)


def chamfer(a: Float[np.ndarray, "p 3"], b: Float[np.ndarray, "q 3"]) -> float:
    """Mean of the mean distances from each point of one set to the nearest of the other, both ways."""
    return float(cKDTree(b).query(a)[0].mean() + cKDTree(a).query(b)[0].mean()) / 2


def surface_points(mesh: trimesh.Trimesh, count: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points "p 3" spread evenly over the surface, and their colours "p 3" in [0, 1] from the vertices'."""
    rng = np.random.default_rng(seed)
    area = np.asarray(mesh.area_faces)
    face = rng.choice(len(area), count, p=area / area.sum())
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - u, u * (1 - v), u * v], axis=1)[..., None]
    corners = np.asarray(mesh.faces)[face]
    assert isinstance(mesh.visual, trimesh.visual.ColorVisuals)
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3] / 255.0
    return (weights * np.asarray(mesh.vertices)[corners]).sum(1), (weights * colours[corners]).sum(1)

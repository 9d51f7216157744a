"""From a radiance field to one closed, coloured, outward-facing triangle mesh.

tau*  the threshold: the surface is where the density crosses it. It is chosen, not given: the one whose silhouettes
      agree best with the rendered ones.
n     cells of the sampling grid along an edge; the mesh's vertices lie on lines between cell centres.

The steps: choose tau*, sample the density, drop floaters and fill cavities, marching cubes, move the vertices onto the
field's own surface, smooth and simplify, colour. Watertight always: the grid is padded with emptiness, and no sample
equals tau*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import fast_simplification
import numpy as np
import torch
import trimesh
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from skimage.measure import marching_cubes
from torch import Tensor
from torch.nn import functional

from dreamfusion.fields.field import Field, device_of
from dreamfusion.fields.occupancy import cell_densities
from dreamfusion.mesh.colour import with_colours
from dreamfusion.render.volume import composite_weights, render_rays, sample_depths
from dreamfusion.views import Views, make_views
from shared.cameras import direction
from shared.errors import KinoformError

LOG_RANGE = math.log(30.0)  # log densities are cut off this far from tau*
FLOATER_SHARE = 0.05  # parts with less of the largest part's volume are floaters
CLOSEST = 1e-3  # how near to tau* (in log density) a sample may come: keeps triangles from collapsing


@dataclass(frozen=True)
class Threshold:
    """density: tau*, 1 / world unit. silhouette_iou: agreement with the rendered silhouettes at tau*, in [0, 1]."""

    density: float
    silhouette_iou: float


def silhouette_views(size: int = 64) -> Views:
    """Eight views across and one from above."""
    azimuth = torch.cat([torch.arange(8) * 45.0 + 10.0, torch.zeros(1)])
    elevation = torch.tensor([5.0, 30.0] * 4 + [80.0])
    return make_views(azimuth, elevation, direction(azimuth, elevation), size)


@torch.no_grad()
def choose_threshold(field: Field, views: Views, samples: int = 96) -> Threshold:
    """The density whose level set has the silhouettes that volume rendering has (opacity above one half).

    A ray meets the level set of tau if the largest density along it exceeds tau. So with rays sorted by that maximum,
    every possible threshold's intersection over union is a running sum; no candidates are tried. Where a range of
    thresholds is equally good, its geometric mean is taken.

    Raises KinoformError when nothing is visible.
    """
    device = device_of(field)
    highest, opacity = [], []
    for index in range(len(views)):
        o, d = (rearrange(r, "1 h w c -> (h w) c").to(device) for r in views.cameras[index].rays())
        opacity.append(render_rays(field, o, d, samples=samples).opacity)
        t, inside, _ = sample_depths(o, d, field.radius, samples)
        density = torch.zeros_like(t)
        density[inside] = field.density((o[:, None] + t[..., None] * d[:, None])[inside])
        highest.append(density.amax(dim=-1))
    peak, order = torch.cat(highest).sort(descending=True)
    seen = (torch.cat(opacity) > 0.5)[order]
    total = int(seen.sum())
    if total == 0:
        raise KinoformError(
            "the scene is empty", expected="something opaque", got="opacity below one half everywhere",
            hint="Use more steps, a lower opacity_weight, or another seed",
        )  # fmt: skip
    # With the k rays of highest peak inside: intersection = hits so far, union = k + (seen rays not among them).
    hits = seen.cumsum(0)
    count = torch.arange(1, len(peak) + 1, device=device)
    iou = hits / (count + total - hits)
    good = (iou >= iou.max() - 1e-3).nonzero()[:, 0]
    # Between ray k and ray k + 1 every threshold gives the same silhouette.
    upper = float(peak[good[0]])
    lower = float(peak[min(int(good[-1]) + 1, len(peak) - 1)])
    return Threshold(math.sqrt(upper * max(lower, upper * 1e-4)), float(iou.max()))


def extract_mesh(
    field: Field,
    threshold: float,
    *,
    resolution: int = 96,
    faces: int = 0,
    smoothing: int = 0,
) -> trimesh.Trimesh:
    """The closed surface where the density crosses `threshold`, with vertex colours from the albedo.

    resolution: cells along an edge of the field's cube. faces: simplify to about so many; 0 keeps all.
    smoothing: Taubin iterations, which keep the volume.
    Raises KinoformError when the density crosses the threshold nowhere.
    """
    cells = cell_densities(field, resolution).double().cpu().numpy()
    levels = log_levels(cells, threshold, _outside_ball(resolution))
    mesh = surface(levels, 2 * field.radius / resolution, field.radius)
    mesh.vertices = refined(field, threshold, mesh.vertices, resolution)
    mesh = without_crumbs(mesh)
    assert mesh.is_watertight, "marching cubes left the surface open"
    if smoothing:
        trimesh.smoothing.filter_taubin(mesh, lamb=0.5, nu=0.53, iterations=smoothing)
    if faces and len(mesh.faces) > faces:
        mesh = simplified(mesh, faces)
    return with_colours(mesh, vertex_colours(field, mesh))


def log_levels(
    density: Float[np.ndarray, "n n n"], threshold: float, empty: Bool[np.ndarray, "n n n"] | None = None
) -> Float[np.ndarray, "n n n"]:
    """log(density / threshold), positive inside, without floaters and cavities; `empty` cells are outside."""
    density = density if empty is None else np.where(empty, 0.0, density)
    inside = density > threshold
    if not inside.any():
        raise KinoformError(
            "the mesh is empty", expected=f"a density above {threshold:.3g}", got=f"{density.max():.3g}"
        )
    parts, _ = ndimage.label(inside, structure=np.ones((3, 3, 3)))
    volumes = np.bincount(parts.ravel())[1:]
    kept = 1 + np.flatnonzero(volumes >= FLOATER_SHARE * volumes.max())
    solid = ndimage.binary_fill_holes(np.isin(parts, kept))
    levels = np.log(np.clip(density / threshold, math.exp(-LOG_RANGE), math.exp(LOG_RANGE)))
    levels = np.where(solid & ~inside, LOG_RANGE, levels)  # cavities
    levels = np.where(~solid & inside, -LOG_RANGE, levels)  # floaters
    return np.where(solid, np.maximum(levels, CLOSEST), np.minimum(levels, -CLOSEST))


def surface(levels: Float[np.ndarray, "n n n"], cell: float, radius: float) -> trimesh.Trimesh:
    """The zero surface of values at cell centres (positive inside), closed and outward-facing."""
    padded = np.pad(levels, 1, constant_values=-LOG_RANGE)
    vertices, faces, _, _ = marching_cubes(padded, level=0.0, allow_degenerate=False)
    # Index 1 of the padded grid is the first cell's centre.
    mesh = trimesh.Trimesh((vertices - 0.5) * cell - radius, faces, process=False)
    if mesh.volume < 0:
        mesh.invert()
    return mesh


@torch.no_grad()
def refined(
    field: Field, threshold: float, vertices: Float[np.ndarray, "v 3"], resolution: int, halvings: int = 10
) -> Float[np.ndarray, "v 3"]:
    """Vertices of `surface`, each moved along its grid line to where the field itself crosses the threshold.

    Interpolation between cell centres assumes a shape for the density's flank; bisection does not. A vertex between two
    cells on the same side (the wall of a floater that was dropped, or of the ball) stays where it is.
    """
    cell = 2 * field.radius / resolution
    index = (torch.as_tensor(vertices.copy(), device=device_of(field)) + field.radius) / cell - 0.5
    axis = (index - index.round()).abs().argmax(dim=1)
    along = functional.one_hot(axis, 3).bool()
    low = torch.where(along, index.floor(), index.round())
    high = torch.where(along, index.floor() + 1, low)

    def inside(place: Tensor) -> Tensor:
        return field.density(((place + 0.5) * cell - field.radius).float()) > threshold

    starts_inside = inside(low)
    crosses = starts_inside != inside(high)
    for _ in range(halvings):
        middle = (low + high) / 2
        same = (inside(middle) == starts_inside)[:, None]
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    moved = torch.where(crosses[:, None], (low + high) / 2, index)
    return ((moved + 0.5) * cell - field.radius).cpu().numpy()


def without_crumbs(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The mesh without closed pieces of less than FLOATER_SHARE of the largest one's volume (inner walls have less
    than none). Cells that only touch at a corner are one part to the labelling above, but not to marching cubes.
    """
    pieces = mesh.split(only_watertight=False)
    largest = max(piece.volume for piece in pieces)
    kept = [piece for piece in pieces if piece.volume >= FLOATER_SHARE * largest]
    if len(kept) == len(pieces):
        return mesh
    offsets = np.cumsum([0, *(len(piece.vertices) for piece in kept[:-1])])
    vertices = np.concatenate([piece.vertices for piece in kept])
    faces = np.concatenate([piece.faces + offset for piece, offset in zip(kept, offsets, strict=True)])
    return trimesh.Trimesh(vertices, faces, process=False)


def simplified(mesh: trimesh.Trimesh, faces: int) -> trimesh.Trimesh:
    """About `faces` triangles by quadric decimation; the mesh as it was where that would open it."""
    for aggressiveness in (7, 3):
        vertices, triangles = fast_simplification.simplify(
            mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), target_count=faces, agg=aggressiveness
        )
        fewer = trimesh.Trimesh(vertices.astype(np.float64), triangles, process=False)
        if fewer.is_watertight and fewer.is_winding_consistent and fewer.volume > 0:
            return fewer
    return mesh


@torch.no_grad()
def vertex_colours(
    field: Field, mesh: trimesh.Trimesh, depth: float = 0.12, samples: int = 12
) -> UInt8[np.ndarray, "v 4"]:
    """RGBA of each vertex: what a camera just outside, looking in along the normal, would see within `depth`.

    The albedo exactly at the surface would be that of half-transparent samples that nothing has trained.
    """
    device = device_of(field)
    points = torch.as_tensor(np.asarray(mesh.vertices), dtype=torch.float32, device=device)
    outward = torch.as_tensor(np.array(mesh.vertex_normals), dtype=torch.float32, device=device)
    delta = depth / samples
    t = (torch.arange(samples, device=device) + 0.5) * delta - depth / 4
    places = points[:, None] - t[:, None] * outward[:, None]
    density, albedo = field(places.reshape(-1, 3))
    weights = composite_weights(density.view(-1, samples) * delta) + 1e-8
    colour = (weights[..., None] * albedo.view(-1, samples, 3)).sum(dim=1) / weights.sum(dim=1, keepdim=True)
    rgb = (colour.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return np.concatenate([rgb, np.full((len(rgb), 1), 255, np.uint8)], axis=1)


def _outside_ball(n: int) -> Bool[np.ndarray, "n n n"]:
    """Cells whose centre the renderer never sees: outside of the ball inscribed in the cube."""
    axis = (np.arange(n) + 0.5) * (2 / n) - 1
    return (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) > 1

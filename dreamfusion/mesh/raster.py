"""A small rasteriser for triangle meshes: which face each pixel sees, and where on it.

Pixel centres are at integer coordinates (as in `shared.cameras`). For a triangle p0 p1 p2 in the picture, barycentric
coordinates are ratios of signed areas; divided by depth and normalised, they are those on the triangle in space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shared.cameras import Cameras


@dataclass(frozen=True)
class Fragments:
    """face: index of the visible face, -1 where there is none. barycentric: weights of its corners, zeros there."""

    face: Int[Tensor, "h w"]
    barycentric: Float[Tensor, "h w 3"]


def rasterise(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], camera: Cameras) -> Fragments:
    """The nearest face in each pixel of one camera, back faces included. Faces that reach behind the camera are left
    out. Where two faces are equally near, the one with the lower index wins, so the result is always the same.
    """
    assert len(camera) == 1, "one camera at a time"
    height, width = camera.height, camera.width
    places, depths = camera.project(vertices)
    corner, depth = places[0][faces], depths[0][faces]  # f 3 2, f 3
    low = corner.amin(dim=1).ceil().clamp(min=0)
    high = torch.minimum(corner.amax(dim=1).floor(), corner.new_tensor([width - 1, height - 1]))
    extent = (high - low + 1).clamp(min=0) * (depth.amin(dim=1) > 1e-6)[:, None]
    # Every pixel of every face's bounding box is a candidate.
    columns, count = extent[:, 0].long(), extent.prod(dim=1).long()
    face = torch.repeat_interleave(torch.arange(len(faces), device=vertices.device), count)
    place = torch.arange(len(face), device=vertices.device) - (count.cumsum(0) - count)[face]
    x, y = low[face, 0].long() + place % columns[face], low[face, 1].long() + place // columns[face]
    weights, inside = _barycentric(corner, face, torch.stack([x, y], dim=-1))
    face, pixel, weights = face[inside], (y * width + x)[inside], weights[inside]
    weights = weights / depth[face]
    nearness = weights.sum(dim=-1)  # 1 / depth
    weights = weights / nearness[:, None]

    best = nearness.new_zeros(height * width).scatter_reduce(0, pixel, nearness, "amax")
    wins = nearness == best[pixel]
    none = len(faces)
    winner = torch.full((height * width,), none, device=vertices.device)
    winner = winner.scatter_reduce(0, pixel[wins], face[wins], "amin")
    shown = wins & (face == winner[pixel])
    barycentric = weights.new_zeros(height * width, 3).index_copy(0, pixel[shown], weights[shown])
    winner = torch.where(winner == none, -1, winner)
    return Fragments(winner.view(height, width), barycentric.view(height, width, 3))


def _barycentric(
    corner: Float[Tensor, "f 3 2"], face: Int[Tensor, " c"], pixel: Int[Tensor, "c 2"]
) -> tuple[Float[Tensor, "c 3"], Tensor]:
    """Barycentric coordinates in the picture of candidate pixels, and whether they are inside (either winding)."""
    edge = corner[:, [2, 0, 1]] - corner[:, [1, 2, 0]]  # opposite to corners 0, 1, 2
    to = pixel[:, None] - corner[:, [1, 2, 0]][face]
    areas = edge[face][..., 0] * to[..., 1] - edge[face][..., 1] * to[..., 0]
    total = areas.sum(dim=-1, keepdim=True)
    weights = areas / torch.where(total == 0, torch.ones_like(total), total)
    return weights, (weights >= 0).all(dim=-1) & (total[:, 0] != 0)


def interpolate(
    fragments: Fragments, faces: Int[Tensor, "f 3"], values: Float[Tensor, "v c"]
) -> Float[Tensor, "h w c"]:
    """Vertex values at each pixel; zeros where no face is seen."""
    corners = values[faces[fragments.face.clamp(min=0)]]  # h w 3 c
    return (fragments.barycentric[..., None] * corners).sum(dim=-2)

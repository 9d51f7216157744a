"""Sphere tracing of many pictures at once.

Every object type is traced once for all pictures that contain it (so a batch costs a few large tensor operations), then
the objects of a picture are composited by depth. Shading is Lambert's: albedo * (AMBIENT + (1 - AMBIENT) max(0, n.l)).
Silhouettes are anti-aliased by the closest approach of the rays that just miss.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from shared.cameras import Cameras
from world.objects import COLOURS, WorldObject
from world.scene import Frame, Instance, objects_by_name, to_local

AMBIENT = 0.4
MAX_STEPS = 64
HIT = 2e-3


@dataclass(frozen=True)
class Picture:
    """pixels: uint8; mask: where the ray through the pixel's centre meets an object."""

    pixels: UInt8[Tensor, "n h w 3"]
    mask: Bool[Tensor, "n h w"]


@dataclass(frozen=True)
class _Layer:
    """One object's answer for a set of rays: depth (world units), coverage in [0, 1], shaded colour."""

    depth: Float[Tensor, " rays"]
    coverage: Float[Tensor, " rays"]
    colour: Float[Tensor, "rays 3"]


@torch.no_grad()
def render(frames: Sequence[Frame], size: int = 64, *, more: Sequence[WorldObject] = ()) -> Picture:
    """Pictures of `frames`, each `size` pixels square. more: objects that the frames name and the world has not."""
    known = {**objects_by_name(), **{obj.name: obj for obj in more}}
    n, pixels = len(frames), size * size
    background = torch.tensor([f.background for f in frames])
    colour = background[:, None, None].expand(n, pixels, 3).clone()
    mask = torch.zeros(n, pixels, dtype=torch.bool)
    layers: dict[int, list[tuple[Tensor, _Layer]]] = defaultdict(list)
    for name, places in _by_object(frames).items():
        for index, rays, layer in _trace_object(known[name], places, frames, size):
            layers[index].append((rays, layer))
    for index, found in layers.items():
        # Far to near, each over what lies behind it.
        for rays, layer in sorted(found, key=lambda pair: -float(pair[1].depth.mean()) if len(pair[0]) else 0.0):
            _composite(colour[index], mask[index], rays, layer, found)
    shaded = (colour.clamp(0, 1) * 255).round().to(torch.uint8)
    return Picture(shaded.view(n, size, size, 3), mask.view(n, size, size))


def _composite(colour: Tensor, mask: Tensor, rays: Tensor, layer: _Layer, found: list[tuple[Tensor, _Layer]]) -> None:
    """Lays one object over the picture except where another, opaque one is nearer."""
    nearest = torch.full((colour.shape[0],), torch.inf)
    for other_rays, other in found:
        if other is not layer:
            solid = other.coverage >= 1
            nearest[other_rays[solid]] = torch.minimum(nearest[other_rays[solid]], other.depth[solid])
    coverage = torch.where(layer.depth < nearest[rays], layer.coverage, torch.zeros_like(layer.coverage))[:, None]
    colour[rays] = colour[rays] * (1 - coverage) + layer.colour * coverage
    mask[rays] |= coverage[:, 0] >= 1


def _by_object(frames: Sequence[Frame]) -> dict[str, list[tuple[int, Instance]]]:
    places: dict[str, list[tuple[int, Instance]]] = defaultdict(list)
    for index, frame in enumerate(frames):
        for instance in frame.instances:
            places[instance.obj].append((index, instance))
    return places


def _trace_object(
    obj: WorldObject, places: list[tuple[int, Instance]], frames: Sequence[Frame], size: int
) -> list[tuple[int, Tensor, _Layer]]:
    """Traces one object type for all its places. Yields (frame index, ray indices, layer) of each place."""
    origins, directions, scales, owners, pixel_ids = [], [], [], [], []
    for place, (index, instance) in enumerate(places):
        cameras: Cameras = frames[index].cameras(size)
        o, d = (r.reshape(-1, 3) for r in cameras.rays())
        o = to_local(o, instance)
        d = to_local(d + torch.tensor(instance.position), instance) * instance.scale
        b = (o * d).sum(-1)
        near_enough = ((o - b[:, None] * d).norm(dim=-1) < 1.2).nonzero()[:, 0]
        origins.append(o[near_enough])
        directions.append(d[near_enough])
        scales.append(torch.full((len(near_enough),), instance.scale))
        owners.append(torch.full((len(near_enough),), place))
        pixel_ids.append(near_enough)
    o, d, scale, owner, ray = map(torch.cat, (origins, directions, scales, owners, pixel_ids))
    half = torch.tan(frames[0].cameras(size).fov_y[0] / 2)
    pixel = 2 * half / size  # pixel width at unit distance
    t, coverage = _march(obj, o, d, pixel)
    seen = coverage > 0
    t, coverage, o, d, scale, owner, ray = (x[seen] for x in (t, coverage, o, d, scale, owner, ray))
    points = o + t[:, None] * d
    albedo = _albedo(obj, points, owner, places)
    normals = _normals(obj, points)
    light = torch.stack([_local_light(frames[index].light, instance) for index, instance in places])[owner]
    shade = AMBIENT + (1 - AMBIENT) * (normals * light).sum(-1).clamp(min=0)
    colour = albedo * shade[:, None]
    result = []
    for place, (index, _) in enumerate(places):
        mine = owner == place
        result.append((index, ray[mine], _Layer((t * scale)[mine], coverage[mine], colour[mine])))
    return result


def _march(obj: WorldObject, o: Tensor, d: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor]:
    """Sphere tracing in the object's frame. Returns the depth of the hit, or of the closest approach, and coverage."""
    b = -(o * d).sum(-1)
    reach = torch.sqrt((1.2**2 - ((o + b[:, None] * d) ** 2).sum(-1)).clamp(min=0))
    t, end = (b - reach).clamp(min=0), b + reach
    closest, closest_t = torch.full_like(t, torch.inf), t.clone()
    hit = torch.zeros_like(t, dtype=torch.bool)
    active = torch.arange(len(t))
    for _ in range(MAX_STEPS):
        if not len(active):
            break
        ta = t[active]
        distance = obj.distance(o[active] + ta[:, None] * d[active])
        relative = distance / (ta * pixel)
        better = relative < closest[active]
        closest[active[better]] = relative[better]
        closest_t[active[better]] = ta[better]
        arrived = distance < HIT
        hit[active[arrived]] = True
        t[active] = ta + torch.where(arrived, torch.zeros_like(distance), distance)
        active = active[~arrived & (t[active] < end[active])]
    coverage = torch.where(hit, torch.ones_like(t), (1 - closest).clamp(0, 0.99))
    return torch.where(hit, t, closest_t), coverage


def _normals(obj: WorldObject, points: Tensor) -> Tensor:
    """Unit gradients of the distance, by the tetrahedron rule of four evaluations."""
    corners = torch.tensor([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
    gradient = sum(c * obj.distance(points + 1e-3 * c)[:, None] for c in corners)
    assert isinstance(gradient, Tensor)
    return torch.nn.functional.normalize(gradient, dim=-1)


def _albedo(obj: WorldObject, points: Tensor, owner: Tensor, places: list[tuple[int, Instance]]) -> Tensor:
    palettes = torch.stack([obj.palette(COLOURS[instance.colour]) for _, instance in places])
    return palettes[owner, obj.nearest_part(points)]


def _local_light(light: tuple[float, float, float], instance: Instance) -> Tensor:
    """The light's direction in the instance's frame (turned only)."""
    only_turned = Instance(instance.obj, instance.colour, yaw=instance.yaw)
    return to_local(torch.tensor(light), only_turned)

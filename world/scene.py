"""Scenes and clips: where each object of a composition stands, how it moves, who looks from where, and the light."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shared.cameras import ELEVATION, LIGHT_ELEVATION, LIGHT_SPREAD, OVERHEAD_ELEVATION, Cameras, direction, orbit
from world.catalogue import world_objects
from world.objects import WorldObject
from world.prompt import MOTIONS, Composition

OVERHEAD_SHARE = 0.15  # of sets of views


@functools.lru_cache(maxsize=1)
def objects_by_name() -> dict[str, WorldObject]:
    return {o.name: o for o in world_objects()}


@dataclass(frozen=True)
class Instance:
    """An object in the scene: scaled, turned by `yaw` degrees about y, then moved to `position`."""

    obj: str
    colour: str
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    yaw: float = 0.0


@dataclass(frozen=True)
class Frame:
    """One picture to take: instances, camera direction (degrees), unit vector towards the light, background grey."""

    instances: tuple[Instance, ...]
    azimuth: float
    elevation: float
    light: tuple[float, float, float]
    background: float

    def cameras(self, size: int) -> Cameras:
        return orbit([self.azimuth], [self.elevation], height=size, width=size)


def arrange(c: Composition) -> tuple[Instance, ...]:
    """The instances of a composition at rest, inside a ball of radius 1.2: the exact geometry that a prompt stands for.

    With a relation, both objects are scaled alike, so that the pair just fills the ball, close to each other
    ("on top of": the first stands on the second; "next to": the first is on the left in the front view).
    """
    if c.other is None or c.other_colour is None:
        return (Instance(c.obj, c.colour),)
    first, second = objects_by_name()[c.obj], objects_by_name()[c.other]
    if c.relation == "on top of":
        height = first.ceiling - first.floor + second.ceiling - second.floor
        scale = min(1.85 / height, 0.75)
        bottom = -height * scale / 2
        second_y = bottom - second.floor * scale
        first_y = bottom + (second.ceiling - second.floor) * scale - first.floor * scale
        places = ((0.0, first_y, 0.0), (0.0, second_y, 0.0))
    else:
        scale = min(1.85 / (2 * first.half_width + 2 * second.half_width + 0.1), 0.65)
        left = -(2 * first.half_width + 2 * second.half_width + 0.1) * scale / 2
        ground = -0.5
        places = (
            (left + first.half_width * scale, ground - first.floor * scale, 0.0),
            (-left - second.half_width * scale, ground - second.floor * scale, 0.0),
        )
    return (Instance(c.obj, c.colour, places[0], scale), Instance(c.other, c.other_colour, places[1], scale))


def random_still(c: Composition, rng: np.random.Generator) -> Frame:
    """A picture of a composition. Without a view word any azimuth will do, but for things side by side."""
    turn = {"front view": 0.0, "side view": 90.0 * rng.choice([-1, 1]), "back view": 180.0}
    if c.view in turn:
        azimuth, elevation = turn[c.view] + rng.uniform(-35, 35), rng.uniform(*ELEVATION)
    elif c.view == "overhead view":
        azimuth, elevation = rng.uniform(-180, 180), rng.uniform(*OVERHEAD_ELEVATION)
    else:
        azimuth, elevation = rng.uniform(-180, 180), rng.uniform(*ELEVATION)
    if c.relation == "next to":
        azimuth = rng.uniform(-25, 25)
    instances = _placed(c, rng)
    return Frame(instances, float(azimuth), float(elevation), _light(rng, azimuth), float(rng.uniform(0.25, 0.75)))


def _placed(c: Composition, rng: np.random.Generator) -> tuple[Instance, ...]:
    """The instances at rest, moved a little and a little larger or smaller."""
    shift, scale = rng.uniform(-0.08, 0.08, 3), rng.uniform(0.92, 1.03)
    return tuple(
        replace(i, position=_triple(np.array(i.position) * scale + shift), scale=i.scale * scale) for i in arrange(c)
    )


CLIP_AZIMUTH = (20.0, 50.0)
START_SCALE = (0.5, 1.03)
START_SHIFT = 0.5  # of the room that a smaller thing has
START_TRAVEL, START_GROWTH = 0.8, 0.6  # how far it goes, and the power of its growth, beside a clip's own start


def random_start(c: Composition, rng: np.random.Generator, frames: int = 16) -> list[Frame]:
    """`frames` pictures of the composition's motion, from a start that only its picture tells: any size, place and side
    of the thing, as stills have it or smaller.

    What moves goes away from there, perhaps out of the picture.
    """
    first = random_still(replace(c, view=None), rng)
    size, swing = rng.uniform(*START_SCALE), rng.uniform(0.92, 1.08)
    room = START_SHIFT * (START_SCALE[1] - size)
    start = rng.uniform(-room, room, 2)
    begin = _pose(c.motion or "still", 0.0, swing, 1.0)
    pictures = []
    for index in range(frames):
        x, y, scale, yaw, camera = _pose(c.motion or "still", index / (frames - 1), swing, 1.0)
        right, up = start[0] + START_TRAVEL * (x - begin[0]), start[1] + START_TRAVEL * (y - begin[1])
        pose = first.cameras(1).camera_to_world[0].numpy()
        moved = replace(
            first.instances[0],
            position=_triple(pose[:3, 0] * right + pose[:3, 1] * up),
            scale=size * (scale / begin[2]) ** START_GROWTH,
            yaw=yaw,
        )
        pictures.append(replace(first, instances=(moved,), azimuth=first.azimuth + camera))
    return pictures


def random_clip(
    c: Composition, rng: np.random.Generator, frames: int = 16, azimuths: tuple[float, float] = CLIP_AZIMUTH
) -> list[Frame]:
    """`frames` pictures over one period of the composition's motion (left, right, up and down are the viewer's).

    Drawn are place, size, light, background and, within `azimuths` at first, the camera. How far a motion is at which
    frame is not, nor, unless they are wide, to which side a thing looks: no word names it, and the average of what
    looks left and right looks nowhere.
    """
    azimuth, elevation = rng.uniform(*azimuths), rng.uniform(8, 24)
    light, background = _light(rng, azimuth, spread=45.0), float(rng.uniform(0.25, 0.75))
    base = replace(arrange(c)[0], scale=rng.uniform(0.6, 0.7))
    drift, swing = rng.uniform(-0.06, 0.06, 2), rng.uniform(0.92, 1.08)
    pictures = []
    for index in range(frames):
        s = index / (frames - 1)
        x, y, scale, yaw, camera = _pose(c.motion or "still", s, swing, base.scale)
        pose = orbit([azimuth], [elevation]).camera_to_world[0].numpy()
        position = pose[:3, 0] * (x + drift[0]) + pose[:3, 1] * (y + drift[1])
        moved = replace(base, position=_triple(position), scale=float(scale), yaw=float(yaw))
        pictures.append(Frame((moved,), float(azimuth + camera), float(elevation), light, background))
    return pictures


def random_views(c: Composition, rng: np.random.Generator, views: int = 16) -> list[Frame]:
    """`views` pictures of a composition that stands still, all around it at one height, evenly spaced.

    The light comes along with the camera, as if the thing were turned: every side is lit as pictures are.
    """
    first = rng.uniform(0, 360 / views)
    elevation = rng.uniform(*(OVERHEAD_ELEVATION if rng.random() < OVERHEAD_SHARE else ELEVATION))
    instances = _placed(c, rng)
    spread, height = rng.uniform(-LIGHT_SPREAD, LIGHT_SPREAD), rng.uniform(*LIGHT_ELEVATION)
    background = float(rng.uniform(0.25, 0.75))
    azimuths = [first + 360 * i / views for i in range(views)]
    return [
        Frame(instances, float(azimuth), float(elevation), _towards(azimuth + spread, height), background)
        for azimuth in azimuths
    ]


def _triple(v: np.ndarray) -> tuple[float, float, float]:
    x, y, z = v.tolist()
    return x, y, z


def _pose(motion: str, s: float, swing: float, size: float) -> tuple[float, float, float, float, float]:
    """(right, up, scale, yaw, camera azimuth) at time s in [0, 1]; lengths in world units, angles in degrees."""
    if motion not in MOTIONS:
        raise ValueError(f"motion: expected one of {list(MOTIONS)}, got {motion!r}")
    travel = 0.55 * swing * (2 * s - 1)
    if motion == "left":
        return -travel, 0.0, size, 0.0, 0.0
    if motion == "right":
        return travel, 0.0, size, 0.0, 0.0
    if motion == "up":
        return 0.0, travel, size, 0.0, 0.0
    if motion == "down":
        return 0.0, -travel, size, 0.0, 0.0
    if motion == "bouncing":  # two hops of a parabola, from the ground to the ground
        hop = 2 * s % 1
        return 0.0, -0.45 + swing * 3.6 * hop * (1 - hop), size, 0.0, 0.0
    if motion == "spinning":
        return 0.0, 0.0, size * 1.3, 360.0 * s, 0.0
    if motion == "growing":
        return 0.0, 0.0, 0.38 + 0.6 * s, 0.0, 0.0
    if motion == "shrinking":
        return 0.0, 0.0, 0.98 - 0.6 * s, 0.0, 0.0
    if motion == "orbit":
        return 0.0, 0.0, size * 1.3, 0.0, 200.0 * s
    return 0.0, 0.0, size * 1.2, 0.0, 0.0


def _light(rng: np.random.Generator, azimuth: float, spread: float = LIGHT_SPREAD) -> tuple[float, float, float]:
    """A direction towards a light above the horizon, within `spread` degrees of the camera's azimuth."""
    return _towards(azimuth + rng.uniform(-spread, spread), rng.uniform(*LIGHT_ELEVATION))


def _towards(azimuth: float, elevation: float) -> tuple[float, float, float]:
    angles = (torch.tensor([angle], dtype=torch.float64) for angle in (azimuth, elevation))
    return _triple(direction(*angles)[0].numpy())


def scene_distance(instances: tuple[Instance, ...], p: Float[Tensor, "... 3"]) -> Float[Tensor, "... instances"]:
    """Signed distance of each point to each instance, in world units."""
    distances = []
    for instance in instances:
        obj = objects_by_name()[instance.obj]
        distances.append(obj.distance(to_local(p, instance)) * instance.scale)
    return torch.stack(distances, dim=-1)


def to_local(p: Float[Tensor, "... 3"], instance: Instance) -> Float[Tensor, "... 3"]:
    """World points in the instance's own frame (turned back, unscaled)."""
    angle = math.radians(instance.yaw)
    cos, sin = math.cos(angle), math.sin(angle)
    # yaw turns +z towards +x: columns of R are (cos, 0, -sin), (0, 1, 0), (sin, 0, cos).
    rotation = torch.tensor([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
    return (p - torch.tensor(instance.position)) @ rotation / instance.scale

"""The 24 objects and 10 colours of the world.

An object is a handful of solid parts. `main` parts take the colour that the prompt names; the few others have a fixed
tone (wheels are dark, a beak is orange). Every object fits the unit ball, faces +z where it has a front, and stands
along +y.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shared.world import sdf
from shared.world.sdf import Sdf

RGB = tuple[float, float, float]

COLOURS: dict[str, RGB] = {
    "red": (0.88, 0.08, 0.08),
    "orange": (1.0, 0.48, 0.02),
    "yellow": (0.98, 0.88, 0.1),
    "green": (0.1, 0.65, 0.15),
    "cyan": (0.1, 0.85, 0.88),
    "blue": (0.1, 0.2, 0.9),
    "purple": (0.5, 0.1, 0.72),
    "pink": (1.0, 0.5, 0.75),
    "white": (0.97, 0.97, 0.97),
    "black": (0.06, 0.06, 0.06),
}

DARK: RGB = (0.13, 0.13, 0.15)
LIGHT: RGB = (0.9, 0.88, 0.82)
WOOD: RGB = (0.42, 0.26, 0.13)
BEAK: RGB = (0.95, 0.55, 0.1)
GLASS: RGB = (0.55, 0.75, 0.85)


@dataclass(frozen=True)
class Part:
    """One solid; `tone` None means the colour that the prompt names."""

    solid: Sdf
    tone: RGB | None = None


@dataclass(frozen=True)
class WorldObject:
    """A named object.

    has_front: front, side and back differ, so view words mean something.
    round: unchanged by turning about y, so "spinning" cannot be seen.
    floor, ceiling: lowest and highest y, for putting things on top of each other.
    half_width: largest |x|, for putting things next to each other.
    """

    name: str
    parts: tuple[Part, ...]
    has_front: bool
    round: bool
    floor: float
    ceiling: float
    half_width: float
    pairs: bool = False
    also: tuple[str, ...] = ()

    def distance(self, p: Float[Tensor, "... 3"]) -> Float[Tensor, "..."]:
        """Signed distance to the whole object."""
        result = self.parts[0].solid(p)
        for part in self.parts[1:]:
            result = torch.minimum(result, part.solid(p))
        return result

    def nearest_part(self, p: Float[Tensor, "... 3"]) -> Int[Tensor, "..."]:
        """Index of the part closest to each point."""
        return torch.stack([part.solid(p) for part in self.parts]).argmin(dim=0)

    def palette(self, colour: RGB) -> Float[Tensor, "parts 3"]:
        """Albedo of each part when the prompt names `colour`."""
        return torch.tensor([colour if part.tone is None else part.tone for part in self.parts])


def _chair() -> tuple[Part, ...]:
    legs = [sdf.box((0.07, 0.32, 0.07), (x, -0.6, z)) for x in (-0.43, 0.43) for z in (-0.43, 0.43)]
    seat = sdf.box((0.52, 0.08, 0.52), (0, -0.22, 0), 0.03)
    back = sdf.box((0.52, 0.5, 0.08), (0, 0.33, -0.45), 0.03)
    return Part(sdf.union(seat, back, *legs)), Part(sdf.box((0.3, 0.06, 0.06), (0, 0.45, -0.37)), LIGHT)


def _mug() -> tuple[Part, ...]:
    cup = sdf.subtract(sdf.cylinder(0.55, 0.65), sdf.cylinder(0.45, 0.65, (0, 0.15, 0)))
    handle = sdf.subtract(sdf.torus(0.32, 0.09, (0.6, 0, 0), axis=2), sdf.cylinder(0.5, 0.6))
    return (Part(sdf.union(cup, handle)),)


def _house() -> tuple[Part, ...]:
    walls = sdf.box((0.58, 0.42, 0.5), (0, -0.35, 0))
    roof = sdf.prism_roof(0.75, 0.6, 0.58, (0, 0.07, 0))
    door = sdf.box((0.15, 0.25, 0.04), (0, -0.52, 0.5))
    windows = sdf.union(sdf.box((0.1, 0.1, 0.04), (-0.37, -0.25, 0.5)), sdf.box((0.1, 0.1, 0.04), (0.37, -0.25, 0.5)))
    return Part(roof), Part(walls, LIGHT), Part(sdf.union(door, windows), WOOD)


def _car() -> tuple[Part, ...]:
    body = sdf.box((0.42, 0.2, 0.88), (0, -0.2, 0), 0.08)
    cabin = sdf.box((0.36, 0.2, 0.42), (0, 0.15, -0.12), 0.1)
    wheels = [sdf.cylinder(0.21, 0.08, (x, -0.4, z), axis=0) for x in (-0.4, 0.4) for z in (-0.52, 0.52)]
    glass = sdf.box((0.3, 0.11, 0.03), (0, 0.15, 0.3))
    lights = sdf.union(sdf.sphere(0.09, (-0.26, -0.15, 0.87)), sdf.sphere(0.09, (0.26, -0.15, 0.87)))
    return Part(sdf.union(body, cabin)), Part(sdf.union(*wheels), DARK), Part(sdf.union(glass, lights), LIGHT)


def _snowman() -> tuple[Part, ...]:
    body = sdf.union(sdf.sphere(0.45, (0, -0.52, 0)), sdf.sphere(0.34, (0, 0.08, 0)), sdf.sphere(0.25, (0, 0.53, 0)))
    hat = sdf.union(sdf.cylinder(0.26, 0.03, (0, 0.7, 0)), sdf.cylinder(0.17, 0.13, (0, 0.84, 0)))
    nose = sdf.cone(0.08, 0.01, 0.14, (0, 0.53, 0.36), axis=2)
    eyes = sdf.union(sdf.sphere(0.05, (-0.1, 0.62, 0.21)), sdf.sphere(0.05, (0.1, 0.62, 0.21)))
    return Part(body), Part(sdf.union(hat, eyes), DARK), Part(nose, BEAK)


def _duck() -> tuple[Part, ...]:
    body = sdf.ellipsoid((0.45, 0.4, 0.65), (0, -0.3, -0.1))
    tail = sdf.turned(sdf.cone(0.22, 0.02, 0.2, (0, 0.0, -0.7), axis=1), -35, 0, (0, 0.0, -0.7))
    head = sdf.sphere(0.34, (0, 0.35, 0.35))
    beak = sdf.box((0.15, 0.06, 0.18), (0, 0.28, 0.75), 0.05)
    eyes = sdf.union(sdf.sphere(0.06, (-0.2, 0.45, 0.6)), sdf.sphere(0.06, (0.2, 0.45, 0.6)))
    return Part(sdf.union(body, tail, head)), Part(beak, BEAK), Part(eyes, DARK)


def _arrow() -> tuple[Part, ...]:
    shaft = sdf.cylinder(0.17, 0.5, (0, 0, -0.4), axis=2)
    tip = sdf.cone(0.5, 0.0, 0.42, (0, 0, 0.5), axis=2)
    return (Part(sdf.union(shaft, tip)),)


def _plane() -> tuple[Part, ...]:
    body = sdf.capsule((0, 0, -0.7), (0, 0, 0.7), 0.2)
    wings = sdf.box((0.95, 0.05, 0.2), (0, 0.02, 0.1), 0.04)
    tail = sdf.union(sdf.box((0.38, 0.04, 0.12), (0, 0.05, -0.72), 0.03), sdf.box((0.04, 0.22, 0.14), (0, 0.25, -0.74)))
    cockpit = sdf.sphere(0.15, (0, 0.13, 0.55))
    return Part(sdf.union(body, wings, tail)), Part(cockpit, GLASS)


def _robot() -> tuple[Part, ...]:
    body = sdf.box((0.36, 0.36, 0.24), (0, -0.1, 0), 0.04)
    head = sdf.box((0.26, 0.2, 0.22), (0, 0.52, 0), 0.04)
    arms = [sdf.box((0.09, 0.32, 0.1), (x, -0.12, 0)) for x in (-0.5, 0.5)]
    legs = [sdf.box((0.12, 0.22, 0.13), (x, -0.7, 0)) for x in (-0.2, 0.2)]
    eyes = sdf.union(sdf.sphere(0.08, (-0.12, 0.55, 0.21)), sdf.sphere(0.08, (0.12, 0.55, 0.21)))
    panel = sdf.box((0.2, 0.12, 0.04), (0, -0.05, 0.23))
    antenna = sdf.cylinder(0.03, 0.12, (0, 0.82, 0))
    return Part(sdf.union(body, head, *arms, *legs)), Part(sdf.union(eyes, panel), LIGHT), Part(antenna, DARK)


def _fish() -> tuple[Part, ...]:
    body = sdf.ellipsoid((0.26, 0.42, 0.62), (0, 0, 0.2))
    tail = sdf.turned(sdf.box((0.06, 0.3, 0.3), (0, 0, -0.62), 0.03), 45, 0, (0, 0, -0.62))
    fin = sdf.turned(sdf.box((0.05, 0.16, 0.24), (0, 0.4, 0.1), 0.03), -20, 0, (0, 0.4, 0.1))
    eyes = sdf.union(sdf.sphere(0.08, (-0.17, 0.12, 0.58)), sdf.sphere(0.08, (0.17, 0.12, 0.58)))
    return Part(sdf.union(body, tail, fin)), Part(eyes, DARK)


def _boat() -> tuple[Part, ...]:
    hull = sdf.subtract(sdf.ellipsoid((0.4, 0.42, 0.92), (0, -0.4, 0)), sdf.box((1, 0.5, 1), (0, 0.1, 0)))
    mast = sdf.cylinder(0.04, 0.6, (0, 0.2, -0.1))
    sail = sdf.turned(sdf.prism_roof(0.62, 1.05, 0.03, (-0.1, -0.2, 0)), -90, 1)
    return Part(hull, WOOD), Part(mast, DARK), Part(sail)


def _teapot() -> tuple[Part, ...]:
    body = sdf.ellipsoid((0.56, 0.5, 0.56), (0, -0.1, 0))
    spout = sdf.capsule((0, -0.1, 0.45), (0, 0.25, 0.88), 0.1)
    handle = sdf.torus(0.27, 0.075, (0, -0.05, -0.6), axis=0)
    knob = sdf.union(sdf.sphere(0.11, (0, 0.47, 0)), sdf.cylinder(0.26, 0.03, (0, 0.37, 0)))
    return Part(sdf.union(body, spout, handle)), Part(knob, DARK)


def _table() -> tuple[Part, ...]:
    top = sdf.box((0.75, 0.08, 0.5), (0, 0.3, 0), 0.02)
    legs = [sdf.box((0.08, 0.42, 0.08), (x, -0.2, z)) for x in (-0.62, 0.62) for z in (-0.37, 0.37)]
    return (Part(sdf.union(top, *legs)),)


def _rocket() -> tuple[Part, ...]:
    body, tip = sdf.cylinder(0.27, 0.5, (0, -0.1, 0)), sdf.cone(0.27, 0.0, 0.28, (0, 0.68, 0))
    fins = [sdf.box((0.5, 0.2, 0.04), (0, -0.6, 0)), sdf.box((0.04, 0.2, 0.5), (0, -0.6, 0))]
    window = sdf.torus(0.275, 0.06, (0, 0.15, 0))
    return Part(sdf.union(body, *fins)), Part(tip, LIGHT), Part(window, DARK)


def _tree() -> tuple[Part, ...]:
    crown = [sdf.cone(r, 0.03, 0.3, (0, y, 0)) for r, y in ((0.66, -0.25), (0.52, 0.17), (0.38, 0.6))]
    return Part(sdf.union(*crown)), Part(sdf.cylinder(0.14, 0.22, (0, -0.72, 0)), WOOD)


def _mushroom() -> tuple[Part, ...]:
    cap = sdf.subtract(sdf.ellipsoid((0.75, 0.65, 0.75), (0, 0.05, 0)), sdf.box((1, 0.5, 1), (0, -0.45, 0)))
    return Part(cap), Part(sdf.cone(0.3, 0.2, 0.42, (0, -0.32, 0)), LIGHT)


def _lamp() -> tuple[Part, ...]:
    shade = sdf.cone(0.55, 0.3, 0.32, (0, 0.5, 0))
    stand = sdf.union(sdf.cylinder(0.06, 0.5, (0, -0.3, 0)), sdf.cylinder(0.36, 0.06, (0, -0.8, 0)))
    return Part(shade), Part(stand, DARK)


def _bowl() -> tuple[Part, ...]:
    outer, inner = sdf.sphere(0.8, (0, 0.35, 0)), sdf.sphere(0.7, (0, 0.35, 0))
    shell = sdf.subtract(sdf.subtract(outer, inner), sdf.box((1, 0.5, 1), (0, 0.75, 0)))
    return Part(shell), Part(sdf.cylinder(0.3, 0.06, (0, -0.46, 0)), DARK)


def _simple(solid: Sdf) -> tuple[Part, ...]:
    return (Part(solid),)


def world_objects() -> tuple[WorldObject, ...]:
    """All objects, in their fixed order (the order is part of the data split: append, never insert)."""
    return (
        WorldObject(
            "sphere",
            _simple(sdf.sphere(0.8)),
            has_front=False,
            round=True,
            floor=-0.79,
            ceiling=0.79,
            half_width=0.79,
            pairs=True,
            also=("ball",),
        ),
        WorldObject(
            "cube",
            _simple(sdf.box((0.57, 0.57, 0.57), rounding=0.02)),
            has_front=False,
            round=False,
            floor=-0.57,
            ceiling=0.57,
            half_width=0.57,
            pairs=True,
            also=("box",),
        ),
        WorldObject(
            "cylinder",
            _simple(sdf.cylinder(0.5, 0.72)),
            has_front=False,
            round=True,
            floor=-0.71,
            ceiling=0.71,
            half_width=0.49,
            pairs=True,
        ),
        WorldObject(
            "cone",
            _simple(sdf.cone(0.68, 0.0, 0.75)),
            has_front=False,
            round=True,
            floor=-0.75,
            ceiling=0.71,
            half_width=0.67,
            pairs=True,
        ),
        WorldObject(
            "torus",
            _simple(sdf.torus(0.62, 0.26)),
            has_front=False,
            round=True,
            floor=-0.25,
            ceiling=0.25,
            half_width=0.87,
            pairs=True,
            also=("ring",),
        ),
        WorldObject(
            "capsule",
            _simple(sdf.capsule((0, -0.55, 0), (0, 0.55, 0), 0.36)),
            has_front=False,
            round=True,
            floor=-0.91,
            ceiling=0.91,
            half_width=0.35,
            pairs=True,
        ),
        WorldObject(
            "mushroom", _mushroom(), has_front=False, round=True, floor=-0.73, ceiling=0.69, half_width=0.75, pairs=True
        ),
        WorldObject("tree", _tree(), has_front=False, round=True, floor=-0.93, ceiling=0.89, half_width=0.65),
        WorldObject("lamp", _lamp(), has_front=False, round=True, floor=-0.85, ceiling=0.81, half_width=0.55),
        WorldObject("bowl", _bowl(), has_front=False, round=True, floor=-0.51, ceiling=0.25, half_width=0.79),
        WorldObject(
            "table", _table(), has_front=False, round=False, floor=-0.61, ceiling=0.37, half_width=0.75, pairs=True
        ),
        WorldObject("rocket", _rocket(), has_front=False, round=False, floor=-0.79, ceiling=0.93, half_width=0.49),
        WorldObject(
            "chair", _chair(), has_front=True, round=False, floor=-0.91, ceiling=0.83, half_width=0.51, pairs=True
        ),
        WorldObject(
            "mug",
            _mug(),
            has_front=True,
            round=False,
            floor=-0.65,
            ceiling=0.65,
            half_width=1.01,
            pairs=True,
            also=("cup",),
        ),
        WorldObject(
            "house", _house(), has_front=True, round=False, floor=-0.77, ceiling=0.65, half_width=0.75, pairs=True
        ),
        WorldObject("car", _car(), has_front=True, round=False, floor=-0.61, ceiling=0.35, half_width=0.47, pairs=True),
        WorldObject("snowman", _snowman(), has_front=True, round=False, floor=-0.97, ceiling=0.97, half_width=0.45),
        WorldObject(
            "duck", _duck(), has_front=True, round=False, floor=-0.69, ceiling=0.69, half_width=0.45, pairs=True
        ),
        WorldObject("arrow", _arrow(), has_front=True, round=False, floor=-0.49, ceiling=0.49, half_width=0.49),
        WorldObject("plane", _plane(), has_front=True, round=False, floor=-0.19, ceiling=0.47, half_width=0.95),
        WorldObject("robot", _robot(), has_front=True, round=False, floor=-0.91, ceiling=0.93, half_width=0.59),
        WorldObject("fish", _fish(), has_front=True, round=False, floor=-0.41, ceiling=0.61, half_width=0.25),
        WorldObject("boat", _boat(), has_front=True, round=False, floor=-0.81, ceiling=0.83, half_width=0.39),
        WorldObject("teapot", _teapot(), has_front=True, round=False, floor=-0.59, ceiling=0.57, half_width=0.55),
    )

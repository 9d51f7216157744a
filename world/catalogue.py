"""The 24 objects of the world, part by part, each with its extents."""

from __future__ import annotations

from world import sdf
from world.objects import BEAK, DARK, GLASS, LIGHT, WOOD, Part, WorldObject
from world.sdf import Sdf


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
    capsule = sdf.capsule((0, -0.55, 0), (0, 0.55, 0), 0.36)
    # name, parts, floor, ceiling, half_width
    return (
        WorldObject("sphere", _simple(sdf.sphere(0.8)), -0.79, 0.79, 0.79, round=True, pairs=True),
        WorldObject("cube", _simple(sdf.box((0.57, 0.57, 0.57), rounding=0.02)), -0.57, 0.57, 0.57, pairs=True),
        WorldObject("cylinder", _simple(sdf.cylinder(0.5, 0.72)), -0.71, 0.71, 0.49, round=True, pairs=True),
        WorldObject("cone", _simple(sdf.cone(0.68, 0.0, 0.75)), -0.75, 0.71, 0.67, round=True, pairs=True),
        WorldObject("torus", _simple(sdf.torus(0.62, 0.26)), -0.25, 0.25, 0.87, round=True, pairs=True),
        WorldObject(
            "capsule",
            _simple(capsule),
            -0.91,
            0.91,
            0.35,
            round=True,
            pairs=True,
        ),
        WorldObject("mushroom", _mushroom(), -0.73, 0.69, 0.75, round=True, pairs=True),
        WorldObject("tree", _tree(), -0.93, 0.89, 0.65, round=True),
        WorldObject("lamp", _lamp(), -0.85, 0.81, 0.55, round=True),
        WorldObject("bowl", _bowl(), -0.51, 0.25, 0.79, round=True),
        WorldObject("table", _table(), -0.61, 0.37, 0.75, pairs=True),
        WorldObject("rocket", _rocket(), -0.79, 0.93, 0.49),
        WorldObject("chair", _chair(), -0.91, 0.83, 0.51, has_front=True, pairs=True),
        WorldObject("mug", _mug(), -0.65, 0.65, 1.01, has_front=True, pairs=True),
        WorldObject("house", _house(), -0.77, 0.65, 0.75, has_front=True, pairs=True),
        WorldObject("car", _car(), -0.61, 0.35, 0.47, has_front=True, pairs=True),
        WorldObject("snowman", _snowman(), -0.97, 0.97, 0.45, has_front=True),
        WorldObject("duck", _duck(), -0.69, 0.69, 0.45, has_front=True, pairs=True),
        WorldObject("arrow", _arrow(), -0.49, 0.49, 0.49, has_front=True),
        WorldObject("plane", _plane(), -0.19, 0.47, 0.95, has_front=True),
        WorldObject("robot", _robot(), -0.91, 0.93, 0.59, has_front=True),
        WorldObject("fish", _fish(), -0.41, 0.61, 0.25, has_front=True),
        WorldObject("boat", _boat(), -0.81, 0.83, 0.39, has_front=True),
        WorldObject("teapot", _teapot(), -0.59, 0.57, 0.55, has_front=True),
    )

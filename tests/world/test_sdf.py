"""Distances against closed forms: points on each surface, made independently, tell how far it really is."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from world import sdf

RNG = np.random.default_rng(7)
SAMPLES = 60_000


def unit(count):
    v = RNG.normal(size=(count, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def disc(radius, y, count):
    r, a = radius * np.sqrt(RNG.random(count)), 2 * math.pi * RNG.random(count)
    return np.stack([r * np.cos(a), np.full(count, y), r * np.sin(a)], 1)


def frustum(bottom, top, half):
    s, a = RNG.random(SAMPLES), 2 * math.pi * RNG.random(SAMPLES)
    r = bottom + s * (top - bottom)
    side = np.stack([r * np.cos(a), half * (2 * s - 1), r * np.sin(a)], 1)
    return np.concatenate([side, disc(bottom, -half, SAMPLES), disc(top, half, SAMPLES)])


def triangle(a, b, c, count):
    u, v = RNG.random((2, count, 1))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    return np.array(a) + u * (np.array(b) - a) + v * (np.array(c) - a)


def box_surface(half):
    p = RNG.uniform(-1, 1, (SAMPLES, 3))
    axis = RNG.integers(0, 3, SAMPLES)
    p[np.arange(SAMPLES), axis] = np.sign(p[np.arange(SAMPLES), axis])
    return p * half


def torus_surface(major, minor):
    a, b = 2 * math.pi * RNG.random((2, SAMPLES))
    r = major + minor * np.cos(b)
    return np.stack([r * np.cos(a), minor * np.sin(b), r * np.sin(a)], 1)


def capsule_surface(half, radius):
    a, s = 2 * math.pi * RNG.random(SAMPLES), RNG.uniform(-half, half, SAMPLES)
    side = np.stack([radius * np.cos(a), s, radius * np.sin(a)], 1)
    caps = unit(SAMPLES) * radius
    return np.concatenate([side, caps + np.sign(caps[:, 1:2]) * np.array([0, half, 0])])


def roof_surface(width, height, depth):
    n = SAMPLES // 8
    corners = {(x, z): (x * width, 0.0, z * depth) for x in (-1, 1) for z in (-1, 1)}
    ridge = {z: (0.0, height, z * depth) for z in (-1, 1)}
    faces = [triangle(corners[-1, z], corners[1, z], ridge[z], n) for z in (-1, 1)]
    for x in (-1, 1):
        faces += [
            triangle(corners[x, -1], corners[x, 1], ridge[1], n),
            triangle(corners[x, -1], ridge[1], ridge[-1], n),
        ]
    faces += [triangle(corners[-1, -1], corners[1, -1], corners[1, 1], n)]
    faces += [triangle(corners[-1, -1], corners[1, 1], corners[-1, 1], n)]
    return np.concatenate(faces)


def radial(p):
    return np.hypot(p[:, 0], p[:, 2])


# name: (solid, points on its surface, which points are inside, whether the distance is exact everywhere)
SOLIDS = {
    "sphere": (sdf.sphere(0.7), unit(SAMPLES) * 0.7, lambda p: np.linalg.norm(p, axis=1) < 0.7, True),
    "ellipsoid": (
        sdf.ellipsoid((0.3, 0.5, 0.8)),
        unit(SAMPLES) * (0.3, 0.5, 0.8),
        lambda p: np.linalg.norm(p / (0.3, 0.5, 0.8), axis=1) < 1,
        False,
    ),
    "box": (
        sdf.box((0.4, 0.6, 0.3)),
        box_surface(np.array([0.4, 0.6, 0.3])),
        lambda p: (np.abs(p) < (0.4, 0.6, 0.3)).all(1),
        True,
    ),
    "cylinder": (
        sdf.cylinder(0.5, 0.4),
        frustum(0.5, 0.5, 0.4),
        lambda p: (radial(p) < 0.5) & (np.abs(p[:, 1]) < 0.4),
        True,
    ),
    "cone": (
        sdf.cone(0.6, 0.2, 0.5),
        frustum(0.6, 0.2, 0.5),
        lambda p: (np.abs(p[:, 1]) < 0.5) & (radial(p) < 0.6 - 0.4 * (p[:, 1] + 0.5)),
        True,
    ),
    "torus": (
        sdf.torus(0.6, 0.2),
        torus_surface(0.6, 0.2),
        lambda p: np.hypot(radial(p) - 0.6, p[:, 1]) < 0.2,
        True,
    ),
    "capsule": (
        sdf.capsule((0, -0.5, 0), (0, 0.5, 0), 0.3),
        capsule_surface(0.5, 0.3),
        lambda p: np.hypot(radial(p), np.maximum(np.abs(p[:, 1]) - 0.5, 0)) < 0.3,
        True,
    ),
    "roof": (
        sdf.prism_roof(0.6, 0.5, 0.4),
        roof_surface(0.6, 0.5, 0.4),
        lambda p: (p[:, 1] > 0) & (np.abs(p[:, 0]) < 0.6 * (1 - p[:, 1] / 0.5)) & (np.abs(p[:, 2]) < 0.4),
        False,
    ),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_distance_is_a_lower_bound_and_where_claimed_exact(name):
    solid, surface, inside, exact = SOLIDS[name]
    p = np.random.default_rng(1).uniform(-1.2, 1.2, (4000, 3))
    distance = solid(torch.tensor(p, dtype=torch.float32)).numpy()
    nearest = cKDTree(surface).query(p)[0]  # never smaller than the true distance
    sign = np.where(inside(p), -1, 1)
    off_surface = nearest > 0.02
    assert (np.sign(distance) == sign)[off_surface].all()
    assert (np.abs(distance) <= nearest + 1e-5).all()
    if exact:
        assert (np.abs(distance) >= nearest - 0.03).all()


@pytest.mark.parametrize("name", SOLIDS)
def test_distance_vanishes_on_the_surface(name):
    solid, surface, _, _ = SOLIDS[name]
    assert solid(torch.tensor(surface, dtype=torch.float32)).abs().max() < 1e-5


COMPOSED = {
    "rounded box": sdf.box((0.5, 0.3, 0.4), (0.1, 0, 0), 0.1),
    "union": sdf.union(sdf.sphere(0.4, (0.3, 0, 0)), sdf.box((0.2, 0.5, 0.2))),
    "subtract": sdf.subtract(sdf.sphere(0.8), sdf.cylinder(0.3, 1.0)),
    "turned": sdf.turned(sdf.cone(0.4, 0.1, 0.5, (0, 0.1, 0)), 33, 2, (0.1, 0, 0.2)),
} | {name: parts[0] for name, parts in SOLIDS.items()}


@given(name=st.sampled_from(sorted(COMPOSED)), seed=st.integers(0, 10**6), spread=st.floats(1e-3, 2))
@settings(max_examples=60, deadline=None)
def test_distance_changes_no_faster_than_the_point(name, seed, spread):
    g = torch.Generator().manual_seed(seed)
    p = torch.rand(400, 3, generator=g) * 3 - 1.5
    q = p + spread * torch.randn(400, 3, generator=g)
    change = (COMPOSED[name](p) - COMPOSED[name](q)).abs()
    assert (change <= (p - q).norm(dim=-1) * (1 + 1e-5) + 1e-5).all()


@pytest.mark.parametrize(
    ("solid", "volume"),
    [
        (sdf.sphere(0.8), 4 / 3 * math.pi * 0.8**3),
        (sdf.box((0.5, 0.4, 0.3)), 8 * 0.5 * 0.4 * 0.3),
        (sdf.torus(0.6, 0.25), 2 * math.pi**2 * 0.6 * 0.25**2),
        (sdf.ellipsoid((0.5, 0.6, 0.9)), 4 / 3 * math.pi * 0.5 * 0.6 * 0.9),
        (sdf.cone(0.7, 0.1, 0.6), math.pi * 1.2 / 3 * (0.7**2 + 0.7 * 0.1 + 0.1**2)),
        (sdf.prism_roof(0.7, 0.8, 0.5), 0.7 * 0.8 * 2 * 0.5),
        (sdf.subtract(sdf.cylinder(0.6, 0.5), sdf.cylinder(0.3, 0.6)), math.pi * (0.6**2 - 0.3**2)),
    ],
)
def test_volume_inside(solid, volume):
    """Counting the cells of a jittered grid: 80^3 of them, within 1%."""
    n = 80
    grid = torch.stack(torch.meshgrid(*[torch.arange(n)] * 3, indexing="ij"), -1).view(-1, 3)
    points = (grid + torch.rand(grid.shape, generator=torch.Generator().manual_seed(3))) * 2 / n - 1
    measured = 8 * float((solid(points) < 0).float().mean())
    assert measured == pytest.approx(volume, rel=0.01)


def test_turned_follows_the_right_hand_rule():
    east = sdf.sphere(0.1, (1, 0, 0))
    for axis, expected in ((1, (0.0, 0.0, -1.0)), (2, (0.0, 1.0, 0.0)), (0, (1.0, 0.0, 0.0))):
        turned = sdf.turned(east, 90, axis)
        assert float(turned(torch.tensor(expected))) == pytest.approx(-0.1, abs=1e-6)


def test_rounding_keeps_the_outer_size():
    solid = sdf.box((0.5, 0.3, 0.4), rounding=0.1)
    faces = torch.tensor([[0.5, 0, 0], [0, 0.3, 0], [0, 0, -0.4]])
    assert solid(faces).abs().max() < 1e-6
    corner = torch.tensor([0.5, 0.3, 0.4])
    assert float(solid(corner)) == pytest.approx(0.1 * (math.sqrt(3) - 1), abs=1e-6)

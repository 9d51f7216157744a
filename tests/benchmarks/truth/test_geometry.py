"""Geometry measures against closed forms."""

import math

import numpy as np
import pytest
import torch
import trimesh

from benchmarks.truth.geometry import (
    REACH,
    Similarity,
    Solid,
    align,
    chamfer,
    exact_silhouettes,
    held_out_cameras,
    mesh_silhouettes,
    sample_cube,
    silhouette_iou,
    surface_points,
    volumetric_iou,
)
from shared.cameras import orbit
from world.mesh import scene_mesh
from world.scene import Instance, scene_distance


def ball(radius):
    return lambda p: np.linalg.norm(p, axis=1) - radius


def ball_mesh(radius):
    return trimesh.creation.icosphere(subdivisions=4, radius=radius)


def world(name):
    instance = (Instance(name, "red"),)
    return lambda p: scene_distance(instance, torch.tensor(p, dtype=torch.float32))[:, 0].double().numpy()


@pytest.mark.parametrize(
    ("mesh", "volume"),
    [
        (ball_mesh(0.7), 4 / 3 * math.pi * 0.7**3),
        (trimesh.creation.box((0.5, 1.0, 0.8)), 0.4),
        (trimesh.creation.torus(0.6, 0.25), 2 * math.pi**2 * 0.6 * 0.25**2),
    ],
)
def test_filled_volume(mesh, volume):
    assert Solid(mesh).volume == pytest.approx(volume, rel=0.04)
    assert Solid(mesh, 128).volume == pytest.approx(volume, rel=0.02)
    assert Solid(mesh).centroid == pytest.approx(np.zeros(3), abs=0.02)


def test_a_hole_is_not_filled():
    ring = Solid(trimesh.creation.torus(0.6, 0.25))
    inside, hole = np.array([[0.6, 0.0, 0.0]]), np.array([[0.0, 0.0, 0.0]])
    assert ring(inside)[0] > 0.9
    assert ring(hole)[0] < 0.1
    assert ring(np.array([[9.0, 0, 0]]))[0] == 0


def test_sloped_faces_are_filled_up_to_their_own_height():
    """A pyramid of four large triangles on a square: heights inside a triangle come from the right corners."""
    base = [(-1, 0, -1), (1, 0, -1), (1, 0, 1), (-1, 0, 1)]
    faces = [[4, i, (i + 1) % 4] for i in range(4)] + [[0, 2, 1], [0, 3, 2]]
    pyramid = trimesh.Trimesh([*base, (0, 1, 0)], faces)
    trimesh.repair.fix_normals(pyramid)
    points = np.random.default_rng(0).uniform(-1, 1, (4000, 3)) * [1, 0.5, 1] + [0, 0.5, 0]
    depth = 1 - points[:, 1] - np.abs(points[:, [0, 2]]).max(axis=1)
    clear = np.abs(depth) > 0.06
    filled = Solid(pyramid, 96)(points) >= 0.5
    assert (filled == (depth > 0))[clear].all()


def test_a_mesh_that_leaves_the_cube_is_not_cut_off_at_it():
    """A long rod scaled up until it covers the ball has its whole volume in the union."""
    rod = Solid(trimesh.creation.box((0.2, 2.3, 0.2)), 96)
    pose = Similarity(scale=7.0)
    union = 0.2 * 2.3 * 0.2 * 7**3
    assert volumetric_iou(ball(0.69), rod, pose, sample_cube(60)) == pytest.approx(
        4 / 3 * np.pi * 0.69**3 / union, rel=0.12
    )


@pytest.mark.parametrize("ratio", [0.6, 0.8, 1.0, 1.25])
def test_volumetric_iou_of_concentric_balls(ratio):
    found = volumetric_iou(ball(0.7), Solid(ball_mesh(0.7 * ratio), 96), Similarity(), sample_cube(60))
    assert found == pytest.approx(min(ratio, 1 / ratio) ** 3, abs=0.03)


def test_similarity_undoes_itself_and_turns_z_towards_x():
    pose = Similarity(0.7, 35.0, (0.1, -0.2, 0.3))
    p = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(pose.undo(pose.apply(p)), p, atol=1e-12)
    np.testing.assert_allclose(Similarity(yaw=90).apply(np.array([[0.0, 0, 1]])), [[1, 0, 0]], atol=1e-12)


@pytest.mark.parametrize("name", ["chair", "teapot"])
def test_alignment_finds_scale_turn_and_place(name):
    hidden = Similarity(0.6, 130.0, (0.2, -0.1, 0.15))
    mesh = hidden.moved(scene_mesh((Instance(name, "red"),), 48))
    found = align(world(name), mesh)
    assert found.scale == pytest.approx(1 / 0.6, rel=0.03)
    assert abs((found.yaw + 130 + 180) % 360 - 180) < 3
    back = found.apply(hidden.apply(np.eye(3)))
    np.testing.assert_allclose(back, np.eye(3), atol=0.06)
    assert volumetric_iou(world(name), Solid(mesh, 96), found, sample_cube(48)) > 0.85
    silhouettes = mesh_silhouettes(found.moved(mesh), held_out_cameras(64))
    assert silhouette_iou(silhouettes, exact_silhouettes(world(name), held_out_cameras(64))).mean() > 0.93


def test_silhouettes_of_balls_are_discs():
    cameras = orbit([0.0, 70.0], [0.0, 30.0], height=96, width=96)

    def radius(r):  # in the picture, of a ball at the centre of the view
        return math.tan(math.asin(r / 4.0))

    small = mesh_silhouettes(ball_mesh(0.5), cameras)
    large = exact_silhouettes(ball(0.8), cameras)
    pixel = 2 * math.tan(cameras.fov_y[0] / 2) / 96
    assert small[0].sum() * pixel**2 == pytest.approx(math.pi * radius(0.5) ** 2, rel=0.02)
    assert large[0].sum() * pixel**2 == pytest.approx(math.pi * radius(0.8) ** 2, rel=0.02)
    expected = (radius(0.5) / radius(0.8)) ** 2
    assert silhouette_iou(small, large) == pytest.approx([expected] * 2, abs=0.02)
    assert silhouette_iou(large, large) == pytest.approx([1, 1])


def test_exact_silhouettes_are_those_of_the_mesh():
    cameras = held_out_cameras(48)
    for name in ("mug", "plane"):
        mesh = scene_mesh((Instance(name, "red"),), 96)
        agreement = silhouette_iou(mesh_silhouettes(mesh, cameras), exact_silhouettes(world(name), cameras))
        assert agreement.min() > 0.95


def test_nothing_has_no_silhouette_in_common():
    empty = np.zeros((1, 4, 4), dtype=bool)
    assert silhouette_iou(empty, empty)[0] == 0


def test_chamfer_of_concentric_balls_is_the_gap():
    a, _ = surface_points(coloured(ball_mesh(0.8)), 8_000)
    b, _ = surface_points(coloured(ball_mesh(0.6)), 8_000, seed=1)
    assert chamfer(a, b) == pytest.approx(0.2, abs=0.006)
    assert chamfer(a, a) == 0


def coloured(mesh):
    mesh.visual.vertex_colors = np.full((len(mesh.vertices), 4), 255, np.uint8)
    return mesh


def test_surface_points_lie_on_it_evenly_with_its_colours():
    mesh = trimesh.creation.box((2, 2, 2))
    mesh.visual.vertex_colors = np.column_stack([(mesh.vertices + 1) / 2 * 255, np.full(8, 255)]).astype(np.uint8)
    points, colours = surface_points(mesh, 6000)
    assert np.abs(points).max(axis=1) == pytest.approx(np.ones(6000), abs=1e-9)
    np.testing.assert_allclose(colours, (points + 1) / 2, atol=0.01)
    face = np.abs(points).argmax(axis=1) * 2 + (points[np.arange(6000), np.abs(points).argmax(axis=1)] > 0)
    assert np.bincount(face, minlength=6) == pytest.approx([1000] * 6, abs=120)


def test_cube_samples_are_one_a_cell():
    points = sample_cube(5)
    cells = np.floor((points + REACH) / (2 * REACH / 5)).astype(int)
    assert len({tuple(c) for c in cells}) == 125

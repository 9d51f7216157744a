"""Meshes of scenes against closed forms, and against the distance that they were made from."""

import math

import numpy as np
import pytest
import torch

from shared.errors import InputError
from world.mesh import scene_mesh
from world.objects import COLOURS, DARK
from world.prompt import OBJECT_NAMES, Composition
from world.scene import Instance, arrange, scene_distance


@pytest.mark.parametrize(
    ("name", "volume"),
    [
        ("sphere", 4 / 3 * math.pi * 0.8**3),
        ("torus", 2 * math.pi**2 * 0.62 * 0.26**2),
        ("cylinder", math.pi * 0.5**2 * 1.44),
        ("capsule", math.pi * 0.36**2 * 1.1 + 4 / 3 * math.pi * 0.36**3),
    ],
)
def test_volume_within_one_percent(name, volume):
    assert scene_mesh((Instance(name, "red"),)).volume == pytest.approx(volume, rel=0.01)


def test_scale_turn_and_place():
    mesh = scene_mesh((Instance("arrow", "red", position=(0.3, -0.2, 0.5), scale=0.5, yaw=90.0),), 64)
    # The arrow points along +z from -0.9 to 0.92; yaw 90 turns it to +x.
    expected = [[0.3 - 0.45, -0.2 - 0.25, 0.5 - 0.25], [0.3 + 0.46, -0.2 + 0.25, 0.5 + 0.25]]
    np.testing.assert_allclose(mesh.bounds, expected, atol=0.02)


@pytest.mark.parametrize("name", OBJECT_NAMES)
def test_every_object_is_closed_and_faces_outwards(name):
    instance = (Instance(name, "red"),)
    mesh = scene_mesh(instance, 48)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0
    outside = torch.tensor(mesh.triangles_center + 0.02 * mesh.face_normals, dtype=torch.float32)
    assert (scene_distance(instance, outside)[:, 0] > 0).float().mean() > 0.95  # thin edges aside
    on_surface = scene_distance(instance, torch.tensor(mesh.vertices, dtype=torch.float32)).abs()
    assert on_surface.max() < 0.03


def test_colours_are_those_of_the_nearest_part():
    mesh = scene_mesh((Instance("car", "green"),), 64)
    colours = mesh.visual.vertex_colors[:, :3] / 255
    roof = mesh.vertices[:, 1].argmax()
    wheel = mesh.vertices[:, 1].argmin()
    np.testing.assert_allclose(colours[roof], COLOURS["green"], atol=1 / 255)
    np.testing.assert_allclose(colours[wheel], DARK, atol=1 / 255)


def test_two_objects_are_both_there_each_in_its_colour():
    instances = arrange(Composition("cube", "red", relation="on top of", other="sphere", other_colour="blue"))
    mesh = scene_mesh(instances, 64)
    assert mesh.is_watertight
    colours = mesh.visual.vertex_colors[:, :3] / 255
    np.testing.assert_allclose(colours[mesh.vertices[:, 1].argmax()], COLOURS["red"], atol=1 / 255)
    np.testing.assert_allclose(colours[mesh.vertices[:, 1].argmin()], COLOURS["blue"], atol=1 / 255)
    cube, sphere = (i.scale**3 for i in instances)
    expected = cube * (2 * 0.57) ** 3 + sphere * 4 / 3 * math.pi * 0.8**3
    assert mesh.volume == pytest.approx(expected, rel=0.02)


def test_nothing_and_too_coarse_are_input_errors():
    with pytest.raises(InputError, match="at least one object"):
        scene_mesh(())
    with pytest.raises(InputError, match="8 or more"):
        scene_mesh((Instance("cube", "red"),), 4)

"""What is declared about every object is true of its shape."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from world.catalogue import world_objects
from world.mesh import scene_mesh
from world.objects import COLOURS
from world.prompt import COLOUR_NAMES, OBJECT_NAMES, SYNONYMS
from world.scene import Instance, objects_by_name

OBJECTS = world_objects()
names = pytest.mark.parametrize("name", OBJECT_NAMES)


def test_names_and_order_are_those_of_the_language():
    assert tuple(o.name for o in OBJECTS) == OBJECT_NAMES
    assert tuple(COLOURS) == COLOUR_NAMES
    assert set(SYNONYMS.values()) <= set(OBJECT_NAMES)


@names
def test_extents_are_as_declared_and_inside_the_traced_ball(name):
    obj, mesh = objects_by_name()[name], scene_mesh((Instance(name, "red"),), 64)
    low, high = mesh.bounds
    # Declared to the step of a coarse grid; the tip of the cone is the furthest off.
    assert low[1] == pytest.approx(obj.floor, abs=0.045)
    assert high[1] == pytest.approx(obj.ceiling, abs=0.045)
    assert np.abs(mesh.bounds[:, 0]).max() == pytest.approx(obj.half_width, abs=0.03)
    assert np.linalg.norm(mesh.vertices, axis=1).max() < 1.2  # the renderer looks no further out


@names
def test_round_objects_look_the_same_from_all_sides_and_others_do_not(name):
    obj = objects_by_name()[name]
    p = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    angle = torch.tensor(0.7)
    turned = torch.stack(
        [angle.cos() * p[:, 0] + angle.sin() * p[:, 2], p[:, 1], angle.cos() * p[:, 2] - angle.sin() * p[:, 0]], -1
    )
    difference = (obj.distance(p) - obj.distance(turned)).abs()
    near = obj.distance(p) < 0.1
    if obj.round:
        assert difference[near].max() < 1e-4
    else:
        assert difference[near].max() > 0.1


@names
def test_a_front_means_that_front_and_side_differ(name):
    obj = objects_by_name()[name]
    p = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    quarter = torch.stack([p[:, 2], p[:, 1], -p[:, 0]], -1)
    if obj.has_front:
        assert (obj.distance(p) - obj.distance(quarter)).abs().max() > 0.05


@given(name=st.sampled_from(OBJECT_NAMES), seed=st.integers(0, 10**6), spread=st.floats(1e-3, 1))
@settings(max_examples=60, deadline=None)
def test_distances_are_safe_to_march(name, seed, spread):
    g = torch.Generator().manual_seed(seed)
    p = torch.rand(300, 3, generator=g) * 2.4 - 1.2
    q = p + spread * torch.randn(300, 3, generator=g)
    obj = objects_by_name()[name]
    assert ((obj.distance(p) - obj.distance(q)).abs() <= (p - q).norm(dim=-1) * (1 + 1e-4) + 1e-5).all()


def test_palette_and_nearest_part():
    snowman = objects_by_name()["snowman"]
    palette = snowman.palette(COLOURS["blue"])
    places = torch.tensor([[0.0, -0.52, 0.45], [0.0, 0.9, 0.17], [0.0, 0.53, 0.5]])  # belly, hat, nose
    seen = palette[snowman.nearest_part(places)]
    assert torch.allclose(seen[0], torch.tensor(COLOURS["blue"]))
    assert seen[1].max() < 0.2
    assert seen[2, 0] > 0.9
    assert seen[2, 2] < 0.2

"""Two meshes where words say that they stand: boxes, whose places are known."""

import numpy as np
import pytest
import trimesh

from dreamfusion.mesh.arrange import FILL, GAP, arranged
from dreamfusion.mesh.colour import mesh_colours, with_colours

RADIUS = 1.15


def block(size, centre, colour):
    mesh = trimesh.creation.box(size)
    mesh.apply_translation(centre)
    return with_colours(mesh, np.tile(np.array([*colour, 255], np.uint8), (len(mesh.vertices), 1)))


@pytest.fixture
def blocks():
    return block((1.0, 0.5, 0.4), (0.3, 0.2, -0.1), (255, 0, 0)), block((0.6, 1.5, 0.8), (0, 0, 0.2), (0, 0, 255))


def bounds(both, first):
    """Boxes of the two parts of what came out."""
    count = len(first.vertices)
    return [np.stack([part.min(axis=0), part.max(axis=0)]) for part in (both.vertices[:count], both.vertices[count:])]


@pytest.mark.parametrize("relation", ["on top of", "next to"])
def test_both_are_there_as_they_were_in_a_ball_around_the_middle(blocks, relation):
    both = arranged(*blocks, relation, RADIUS)
    assert both.is_watertight
    assert both.body_count == 2
    assert both.bounds.mean(axis=0) == pytest.approx([0, 0, 0])
    assert np.linalg.norm(both.vertices, axis=1).max() <= RADIUS + 1e-9
    assert np.array_equal(mesh_colours(both), np.concatenate([mesh_colours(block) for block in blocks]))
    scales = [(box[1] - box[0]) / was.extents for box, was in zip(bounds(both, blocks[0]), blocks, strict=True)]
    assert np.ptp(scales) == pytest.approx(0, abs=1e-9)


def test_on_top_of_stands_in_the_middle_of_the_other(blocks):
    first, second = bounds(arranged(*blocks, "on top of", RADIUS), blocks[0])
    assert first[0, 1] == pytest.approx(second[1, 1])
    assert first.mean(axis=0)[[0, 2]] == pytest.approx(second.mean(axis=0)[[0, 2]])
    assert second[1, 1] - second[0, 1] + first[1, 1] - first[0, 1] == pytest.approx(FILL * 2 * RADIUS)


def test_next_to_stands_on_the_left_on_the_same_ground(blocks):
    first, second = bounds(arranged(*blocks, "next to", RADIUS), blocks[0])
    assert first[0, 1] == pytest.approx(second[0, 1])
    widths = first[1, 0] - first[0, 0] + second[1, 0] - second[0, 0]
    assert second[0, 0] - first[1, 0] == pytest.approx(GAP * widths)
    assert first[:, 2].mean() == pytest.approx(second[:, 2].mean())


def test_what_is_long_across_still_fits():
    flat = block((0.2, 2.0, 0.2), (0, 0, 0), (0, 0, 0))
    both = arranged(flat, flat, "next to", 1.0)
    assert np.linalg.norm(both.vertices, axis=1).max() == pytest.approx(1.0)

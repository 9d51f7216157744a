import numpy as np
import trimesh

from dreamfusion.colour import mesh_colours, to_display, to_linear, with_colours


def test_known_values_of_the_srgb_curve():
    display = np.array([0, 10, 64, 128, 188, 255], dtype=np.uint8)
    assert to_linear(display).tolist() == [0, 1, 13, 55, 128, 255]
    assert to_display(np.array([0, 13, 55, 128, 255], dtype=np.uint8)).tolist() == [0, 64, 128, 188, 255]


def test_display_bytes_survive_the_round_trip():
    """To half a step of the 8-bit linear value: 6 in the darks, where the curve is steepest, and less than 1 above."""
    display = np.arange(256, dtype=np.uint8)
    back = to_display(to_linear(display)).astype(int)
    assert np.abs(back - display).max() <= 7
    assert np.abs(back - display)[100:].max() <= 1


def test_colours_are_copied_not_shared():
    mesh = trimesh.creation.box()
    colours = np.full((8, 4), 200, dtype=np.uint8)
    coloured = with_colours(mesh, colours)
    mesh_colours(coloured)[:] = 0
    assert np.array_equal(mesh_colours(coloured), colours)
    assert np.array_equal(coloured.vertices, mesh.vertices)

import numpy as np
import trimesh

from dreamfusion.mesh.colour import mesh_colours, to_display, to_linear, with_colours


def test_known_values_of_the_srgb_curve():
    """IEC 61966-2-1, by its two branches."""
    display = np.array([0, 10, 11, 128, 255], dtype=np.uint8)
    wanted = [0, 10 / 255 / 12.92, ((11 / 255 + 0.055) / 1.055) ** 2.4, ((128 / 255 + 0.055) / 1.055) ** 2.4, 1]
    assert np.allclose(to_linear(display), wanted, rtol=1e-6)
    assert to_display(np.array([-1, 0, 0.5, 1, 2], dtype=np.float32)).tolist() == [0, 0, 188, 255, 255]


def test_display_bytes_survive_the_round_trip():
    display = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_display(to_linear(display)), display)


def test_colours_are_copied_not_shared():
    mesh = trimesh.creation.box()
    colours = np.full((8, 4), 200, dtype=np.uint8)
    coloured = with_colours(mesh, colours)
    mesh_colours(coloured)[:] = 0
    assert np.array_equal(mesh_colours(coloured), colours)
    assert np.array_equal(coloured.vertices, mesh.vertices)

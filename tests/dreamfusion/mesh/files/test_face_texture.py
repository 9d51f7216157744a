import io

import numpy as np
import pytest
import trimesh
from PIL import Image

from dreamfusion.mesh.colour import mesh_colours, to_display, to_linear
from dreamfusion.mesh.files.face_texture import face_texture, png_bytes
from tests.dreamfusion.mesh.files.meshes import coloured_ball


def bilinear(pixels, uv):
    """What a renderer reads at each place: decoded first, then filtered between the four nearest texel centres."""
    height, width = pixels.shape[:2]
    linear = to_linear(pixels).astype(np.float64)
    x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
    left, top = np.floor(x + 1e-9).astype(int), np.floor(y + 1e-9).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    s, t = (x - left)[:, None], (y - top)[:, None]
    above = linear[top, left] * (1 - s) + linear[top, right] * s
    below = linear[bottom, left] * (1 - s) + linear[bottom, right] * s
    return above * (1 - t) + below * t


def test_corners_have_their_vertices_colours():
    mesh = coloured_ball()
    pixels, uv = face_texture(mesh)
    got = to_display(bilinear(pixels, uv.reshape(-1, 2)).astype(np.float32))
    assert np.array_equal(got, mesh_colours(mesh)[mesh.faces.reshape(-1), :3])


def test_between_corners_colours_are_interpolated():
    """Against barycentric interpolation of linear light, for colours whose fourth texel is a colour as well."""
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.visual.vertex_colors = np.round(127 + 60 * mesh.vertices @ np.eye(3, 4)).astype(np.uint8)
    mesh.visual.vertex_colors[:, 3] = 255
    pixels, uv = face_texture(mesh)
    rng = np.random.default_rng(0)
    weights = rng.dirichlet((1, 1, 1), len(mesh.faces))[..., None]
    wanted = (weights * to_linear(mesh_colours(mesh)[:, :3])[mesh.faces]).sum(axis=1)
    got = bilinear(pixels, (weights * uv).sum(axis=1))
    off = to_display(got.astype(np.float32)).astype(int) - to_display(wanted.astype(np.float32))
    assert np.abs(off).max() <= 1


def test_no_two_faces_share_a_texel():
    mesh = coloured_ball()
    pixels, uv = face_texture(mesh)
    height, width = pixels.shape[:2]
    assert (height & (height - 1), width & (width - 1)) == (0, 0)
    texels = np.floor(uv * [width, height]).astype(int)
    blocks = {(int(x) // 2, int(y) // 2) for x, y in texels.reshape(-1, 2)}
    assert len(blocks) == len(mesh.faces)
    assert ((texels // 2) == (texels // 2)[:, :1]).all()


def test_faces_of_one_colour_read_one_place():
    """Renderers choose a smaller copy of the picture by how far apart places are on it: here never, so none bleeds."""
    mesh = trimesh.util.concatenate([trimesh.creation.box(), trimesh.creation.icosphere(subdivisions=1)])
    mesh.visual.vertex_colors = np.where(np.arange(len(mesh.vertices))[:, None] < 8, 250, 20) * np.ones(4, np.uint8)
    mesh.visual.vertex_colors[0] = (250, 250, 0, 255)  # the faces around it are the only ones of two colours
    pixels, uv = face_texture(mesh)
    mixed = (mesh.faces == 0).any(axis=1)
    spread = np.ptp(uv, axis=1).max(axis=1)
    assert (spread[~mixed] == 0).all()
    assert (spread[mixed] > 0).all()
    got = to_display(bilinear(pixels, uv.reshape(-1, 2)).astype(np.float32))
    assert np.array_equal(got, mesh_colours(mesh)[mesh.faces.reshape(-1), :3])


@pytest.mark.parametrize("faces", [1, 2, 3, 5])
def test_few_faces_fit(faces):
    mesh = coloured_ball()
    few = trimesh.Trimesh(mesh.vertices, mesh.faces[:faces], vertex_colors=mesh_colours(mesh), process=False)
    pixels, uv = face_texture(few)
    got = to_display(bilinear(pixels, uv.reshape(-1, 2)).astype(np.float32))
    assert np.array_equal(got, mesh_colours(few)[few.faces.reshape(-1), :3])


def test_png_holds_the_picture():
    pixels, _ = face_texture(coloured_ball())
    assert np.array_equal(np.array(Image.open(io.BytesIO(png_bytes(pixels)))), pixels)

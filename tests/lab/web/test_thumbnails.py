"""What a look at a file finds, and its small picture."""

import io

import numpy as np
import pytest
from PIL import Image

from dreamfusion.mesh.files.write import write_mesh
from dreamfusion.mesh.turntable import render_mesh
from dreamfusion.views import around
from lab.web.thumbnails import SIDE, TURNED, look, medium, mesh_pixels, thumbnail
from shared.artifacts.media import write_clip, write_image
from tests.dreamfusion.mesh.files.meshes import coloured_ball

FRAMES = np.stack([np.full((16, 24, 3), level, np.uint8) for level in (0, 60, 120, 180, 240)])


def opened(data):
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("a.mp4", "video"),
        ("a.webm", "video"),
        ("a.gif", "animation"),
        ("a.webp", "animation"),
        ("a.apng", "animation"),
        ("a", "frames"),
    ],
)
def test_of_a_clip_the_middle_frame(tmp_path, name, media):
    write_clip(tmp_path / name, FRAMES, 5)
    facts, picture = look(tmp_path / name)
    assert facts == {"media": media, "width": 24, "height": 16, "frames": 5, "fps": pytest.approx(5)}
    assert np.abs(opened(picture).astype(int) - 120).max() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jpg"])
def test_small_pictures_are_their_own_thumbnails(tmp_path, name):
    write_image(tmp_path / name, FRAMES[2])
    assert look(tmp_path / name) == ({"media": "image", "width": 24, "height": 16, "small": True}, None)


def test_large_pictures_become_small_ones(tmp_path):
    picture = np.zeros((600, 300, 3), np.uint8)
    picture[:, 150:] = 255
    write_image(tmp_path / "a.png", picture)
    facts, small = look(tmp_path / "a.png")
    assert facts == {"media": "image", "width": 300, "height": 600, "small": False}
    assert opened(small).shape == (SIDE, SIDE // 2, 3)
    assert opened(small)[:, :50].max() < 20
    assert opened(small)[:, 78:].min() > 235


def test_tiny_frames_keep_every_pixel():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert (opened(thumbnail(noise)) == noise).all()


def test_a_mesh_is_shown_on_nothing(tmp_path):
    mesh = coloured_ball()
    pixels = mesh_pixels(mesh, 64)
    views = around(1, 64, start=TURNED)
    for ground in (0.0, 0.5, 1.0):
        alpha = pixels[..., 3:] / 255
        laid = pixels[..., :3] * alpha + 255 * ground * (1 - alpha)
        assert np.abs(laid - render_mesh(mesh, views, background=ground)[0]).max() <= 2
    assert {0, 255} < set(np.unique(pixels[..., 3]).tolist())
    for name, viewer in (("a.glb", True), ("a.ply", False)):
        write_mesh(tmp_path / name, mesh)
        facts, picture = look(tmp_path / name)
        assert (facts["media"], facts["viewer"], facts["faces"]) == ("asset", viewer, len(mesh.faces))
        assert Image.open(io.BytesIO(picture)).mode == "RGBA"
        assert ("note" in facts) is not viewer


def test_a_glb_unlike_ours_is_left_to_the_viewer(tmp_path):
    import trimesh

    (tmp_path / "plain.glb").write_bytes(trimesh.creation.box().export(file_type="glb"))
    (tmp_path / "broken.glb").write_bytes(b"glTF\0\0\0\0")
    assert look(tmp_path / "plain.glb") == ({"media": "asset", "viewer": True}, None)
    assert "cannot be shown" in look(tmp_path / "broken.glb")[0]["note"]


def test_what_has_no_picture(tmp_path):
    write_mesh(tmp_path / "a.stl", coloured_ball())
    (tmp_path / "a.json").write_text('{"score": 1}')
    (tmp_path / "a.vox").write_bytes(b"x")
    assert look(tmp_path / "a.stl") == ({"media": "asset", "note": "There is no preview of .stl files."}, None)
    assert look(tmp_path / "a.json") == ({"media": "text", "text": '{"score": 1}'}, None)
    assert look(tmp_path / "a.vox") == ({"media": "file", "note": "There is no preview of .vox files."}, None)
    assert medium(tmp_path / "gone.png") == "image"

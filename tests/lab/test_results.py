"""What a run gives back: looked at, saved, shown in a notebook."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import trimesh
from PIL import Image

from dreamfusion.mesh.report import mesh_report
from dreamfusion.mesh.turntable import turntable
from dreamfusion.recipe import AssetRecipe
from lab.results import Asset, Clip, Picture
from shared.artifacts.media import read_clip, read_image
from shared.artifacts.run_record import RunRecord, read_record
from shared.errors import InputError
from shared.images.recipe import ImageRecipe
from video.recipe import ClipRecipe

HOSTILE = "a cube \"><script>alert('x')</script>&"


def record(recipe):
    kind = {ImageRecipe: "image", ClipRecipe: "clip", AssetRecipe: "asset"}[type(recipe)]
    return RunRecord.of_run(kind, recipe.resolved(), recipe.seed, "world", {})


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.fixture
def picture():
    return Picture(noise(48, 64), record(ImageRecipe(prompt="a red cube")))


@pytest.fixture
def clip():
    return Clip(noise(5, 32, 48), 8.0, record(ClipRecipe(prompt=HOSTILE)))


@pytest.fixture(scope="module")
def asset():
    box = trimesh.creation.box((1, 0.5, 0.25))
    box.visual.vertex_colors = np.tile([200, 30, 40, 255], (8, 1)).astype(np.uint8)
    values = {"print_size": 40, "turntable_frames": 3, "turntable_size": 32, "turntable_fps": 6}
    return Asset(box, mesh_report(box), record(AssetRecipe(prompt="a red box", **values)))


@pytest.mark.parametrize("name", ["new/a.png", "a.webp", "a.jpg"])
def test_a_picture_is_saved_with_its_record(picture, tmp_path, name):
    assert picture.save(str(tmp_path / name)) == tmp_path / name
    saved = read_image(tmp_path / name)
    if not name.endswith("jpg"):
        np.testing.assert_array_equal(saved, picture.pixels)
    assert read_record(tmp_path / name) == picture.record
    np.testing.assert_array_equal(np.asarray(picture.pil), picture.pixels)
    assert picture.pil.mode == "RGB"


@pytest.mark.parametrize(("name", "part"), [("a.tiff", ".png"), ("a", ".png"), ("file/a.png", "not a file among")])
def test_a_place_that_cannot_be_is_refused(picture, tmp_path, name, part):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=rf"output: expected .*{part}"):
        picture.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("side", "scale"), [((48, 64), 4), ((16, 16), 16), ((300, 200), 1)])
def test_a_notebook_shows_a_picture_enlarged_without_smoothing(side, scale):
    picture = Picture(noise(*side), record(ImageRecipe(prompt="a red cube")))
    shown = np.asarray(Image.open(io.BytesIO(picture._repr_png_())))
    np.testing.assert_array_equal(shown, picture.pixels.repeat(scale, 0).repeat(scale, 1))


@pytest.mark.parametrize("name", ["a.apng", "folder", "a.webp"])
def test_a_clip_is_saved_with_its_record(clip, tmp_path, name):
    assert clip.save(tmp_path / name) == tmp_path / name
    saved = read_clip(tmp_path / name)
    np.testing.assert_array_equal(saved.frames, clip.frames)
    assert saved.fps == pytest.approx(8)
    assert read_record(tmp_path / name) == clip.record


def test_thumbnails_are_even_in_time_and_all_of_a_picture(clip, picture):
    assert [frame.tolist() for frame in clip.thumbnails(3)] == [clip.frames[i].tolist() for i in (0, 2, 4)]
    assert len(clip.thumbnails()) == 8
    assert picture.thumbnails()[0] is picture.pixels


class Page(HTMLParser):
    """The tags of an HTML text with their attributes, and what stands between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def shown_by(page, tmp_path):
    """The clip inside the page."""
    _, attributes = page.tags[1]
    kind, _, data = attributes["src"].partition(";base64,")
    assert kind == "data:image/webp"
    (tmp_path / "shown.webp").write_bytes(base64.b64decode(data, validate=True))
    return read_clip(tmp_path / "shown.webp")


def test_a_notebook_shows_a_clip_that_moves_and_its_prompt_as_text(clip, tmp_path):
    page = Page(clip._repr_html_())
    assert [tag for tag, _ in page.tags] == ["figure", "img", "figcaption"]  # and no script
    assert page.text == page.tags[1][1]["alt"] == HOSTILE
    assert page.tags[1][1]["width"] == "256"
    assert "pixelated" in page.tags[1][1]["style"]
    shown = shown_by(page, tmp_path)
    np.testing.assert_array_equal(shown.frames, clip.frames)
    assert shown.fps == pytest.approx(8)


def test_one_frame_and_a_wide_one_are_shown_too(clip, tmp_path):
    one = Clip(noise(1, 16, 300), 8.0, clip.record)
    page = Page(one._repr_html_())
    assert page.tags[1][1]["width"] == "300"
    assert "pixelated" not in page.tags[1][1]["style"]
    image = base64.b64decode(page.tags[1][1]["src"].partition(";base64,")[2])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(image)).convert("RGB")), one.frames[0])


def test_an_asset_turns_as_its_recipe_says_or_as_asked(asset):
    turned = asset.turntable()
    np.testing.assert_array_equal(turned.frames, turntable(asset.mesh, frames=3, size=32))
    assert (turned.fps, turned.record) == (6.0, asset.record)
    other = asset.turntable(2, size=48, fps=12)
    assert (other.frames.shape, other.fps) == ((2, 48, 48, 3), 12.0)
    assert len(asset.thumbnails(2)) == 2


def test_a_notebook_shows_an_asset_that_turns_and_its_report(asset, tmp_path):
    page = Page(asset._repr_html_())
    assert page.text == asset.report.line()
    assert re.fullmatch(r"12 faces, 1 piece, watertight, volume 0\.125", page.text)
    shown = shown_by(page, tmp_path).frames
    assert shown.shape == (24, 192, 192, 3)
    np.testing.assert_array_equal(shown[::12], turntable(asset.mesh, frames=2, size=192))


def test_an_asset_is_saved_and_printed_in_millimetres(asset, tmp_path):
    for name, size, longest in (("a.stl", None, 40), ("b.stl", 80, 80), ("a.ply", None, 1)):
        path = asset.save(tmp_path / name, print_size=size)
        assert trimesh.load_mesh(path).extents.max() == pytest.approx(longest)
        assert read_record(path) == asset.record
    with pytest.raises(InputError, match=r"print size: expected \.stl or \.3mf"):
        asset.save(tmp_path / "a.glb", print_size=80)

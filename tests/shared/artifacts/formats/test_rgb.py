"""Pictures of any mode as eight-bit sRGB, against Pillow's and littleCMS's own values, and closed forms."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from shared.artifacts.formats.image_file import read_image
from shared.artifacts.formats.rgb import as_rgb

RAMP = np.linspace(0, 65535, 16 * 16).round().astype(np.uint16).reshape(16, 16)


def test_sixteen_bits_of_grey_become_eight(tmp_path):
    for name in ("a.png", "a.tif"):
        Image.fromarray(RAMP).save(tmp_path / name)
        expected = (RAMP / 257).round().astype(np.uint8)
        assert (read_image(tmp_path / name) == expected[..., None]).all()
    wide = Image.fromarray(RAMP.astype(np.int32))
    assert (np.asarray(as_rgb(wide)) == (RAMP / 257).round()[..., None]).all()


@pytest.mark.parametrize("levels", [RAMP.astype(np.float32), RAMP.astype(np.int32) * 9, -RAMP.astype(np.int32)])
def test_what_has_no_known_white_is_refused(levels):
    with pytest.raises(ValueError, match=r"floating-point pixels|pixels of 32 bits"):
        as_rgb(Image.fromarray(levels))


def test_half_transparent_lies_on_white():
    picture = Image.new("RGBA", (4, 4), (0, 100, 200, 128))
    expected = np.array([0, 100, 200]) * 128 / 255 + 255 * 127 / 255
    assert np.abs(np.asarray(as_rgb(picture)) - expected).max() <= 1
    grey = Image.new("LA", (4, 4), (0, 0))
    assert (np.asarray(as_rgb(grey)) == 255).all()


def test_colours_of_another_profile_become_srgb(tmp_path):
    picture = Image.new("RGB", (4, 4), (200, 60, 60))
    picture.save(tmp_path / "srgb.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert (read_image(tmp_path / "srgb.png") == (200, 60, 60)).all()
    picture.save(tmp_path / "broken.png", icc_profile=b"no profile")
    assert (read_image(tmp_path / "broken.png") == (200, 60, 60)).all()
    profile = wide_profile()
    picture.save(tmp_path / "wide.png", icc_profile=profile)
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    expected = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"))
    seen = read_image(tmp_path / "wide.png")
    assert (seen == np.asarray(expected)).all()
    assert (seen != (200, 60, 60)).any()


def wide_profile():
    """littleCMS's sRGB under another name, red and green exchanged: what it must do is plain to see."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for old, new in ((b"rXYZ", b"tmp_"), (b"gXYZ", b"rXYZ"), (b"tmp_", b"gXYZ")):
        at = data.index(old, 128)
        data[at : at + 4] = new
    text = "sRGB".encode("utf-16-be")
    while text in data:
        at = data.index(text)
        data[at : at + len(text)] = "wide".encode("utf-16-be")
    return bytes(data)

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.artifacts.formats.image_file import IMAGE_SUFFIXES, TAG, read_image, read_image_text, sidecar, write_image
from shared.errors import InputError, KinoformError


def picture() -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    return np.stack([4 * x, 5 * y, 128 + 0 * x], axis=-1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_an_image_comes_back_with_its_record(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    write_image(file, picture(), {TAG: '{"é": "日本"}'})
    error = np.abs(read_image(file).astype(int) - picture()).max()
    assert error == 0 if suffix in (".png", ".webp") else error < 8
    assert read_image_text(file) == {TAG: '{"é": "日本"}'}
    assert not sidecar(file).exists()
    before = file.read_bytes()
    write_image(file, picture(), {TAG: '{"é": "日本"}'})
    assert file.read_bytes() == before
    write_image(file, picture(), {TAG: "plain " * 9000})
    assert read_image_text(file) == {TAG: "plain " * 9000}
    write_image(file, picture())
    assert read_image_text(file) == {}


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_the_comment_of_a_photo_is_read_however_its_program_wrote_it(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    for code, encoding in ((b"ASCII\0\0\0", "ascii"), (b"UNICODE\0", "utf-16-le"), (b"UNICODE\0", "utf-16-be")):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = code + '{"a": 1}'.encode(encoding)
        Image.fromarray(picture()).save(file, exif=exif)
        assert read_image_text(file) == {TAG: '{"a": 1}'}
    for comment in (b"JIS\0\0\0\0\0x", b"", b"ASCII\0\0\0", b"short"):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = comment
        Image.fromarray(picture()).save(file, exif=exif)
        assert read_image_text(file) == {}


def test_a_text_that_no_jpeg_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KinoformError, match="at most 65000 bytes, got 70"):
        write_image(tmp_path / "a.jpg", picture(), {TAG: "x" * 70_000})
    assert not list(tmp_path.iterdir())


def test_images_of_users_become_upright_rgb(tmp_path: Path) -> None:
    """Photos are noted to be turned, logos are transparent, scans are grey or have a palette."""
    rgb = Image.fromarray(picture())
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    rgb.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(picture(), -1))
    clear = rgb.convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png") == 255).all()
    for mode in ("L", "1", "P", "CMYK"):
        rgb.convert(mode).save(tmp_path / "a.tiff")
        assert np.array_equal(read_image(tmp_path / "a.tiff"), np.array(rgb.convert(mode).convert("RGB")))


def test_what_is_no_image_is_one_line(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:100])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("F", (4, 4)).save(tmp_path / "deep.tiff")
    Image.new("1", (9_000, 9_000)).save(tmp_path / "huge.png")
    Image.new("1", (10_000, 10_000)).save(tmp_path / "bomb.png")
    for name, words in [
        ("missing.png", "a file that exists"),
        ("cut.png", "a readable image"),
        ("text.png", "a readable image"),
        ("empty.png", "a readable image"),
        ("deep.tiff", "8 or 16 bits a channel"),
        ("huge.png", "at most 67108864 pixels"),
        ("bomb.png", "a readable image"),
        (".", "a readable image"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            read_image(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1


def test_only_uint8_rgb_is_written_and_only_known_endings(tmp_path: Path) -> None:
    for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(KinoformError, match="uint8"):
            write_image(tmp_path / "a.png", wrong)
    for name in ("a.bmp", "a", "a.png/"):
        with pytest.raises(InputError, match=r"a name ending in .png, .jpg, .jpeg, .webp"):
            write_image(f"{tmp_path}/{name}", picture())
    assert not list(tmp_path.iterdir())

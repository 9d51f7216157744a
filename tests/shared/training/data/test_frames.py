"""Frames of clips in every format: as many as were written, upright, and of the right colours."""

import numpy as np
import pytest
from PIL import Image

from shared.artifacts.media import write_clip
from shared.training.data.frames import is_animated, open_frames
from tests.shared.training.messy import CLIPS, FRAMES, frames, write_any_clip


def read(path):
    with open_frames(path) as found:
        pixels = np.stack([frame() for frame in found.frames])
        return pixels, found.fps


@pytest.mark.parametrize("name", CLIPS)
def test_every_format_gives_its_frames_and_rate(tmp_path, name):
    expected = frames(1)
    write_any_clip(tmp_path / name, expected)
    pixels, fps = read(tmp_path / name)
    assert pixels.shape == expected.shape
    assert fps == pytest.approx(8, rel=0.01)
    error = np.abs(pixels.astype(int) - expected).mean()
    assert error == 0 if name in ("g.webp", "h.png", "sequence") else error < 10
    assert is_animated(tmp_path / name) == (name in ("c.gif", "g.webp", "h.png"))
    assert len({frame.tobytes() for frame in pixels}) == FRAMES


def test_reading_makes_no_level_darker(tmp_path):
    grey = np.broadcast_to(np.arange(30, 226, 3, dtype=np.uint8)[:, None, None, None], (66, 16, 16, 3)).copy()
    write_clip(tmp_path / "a.mp4", grey, 8)
    assert abs((read(tmp_path / "a.mp4")[0].astype(int) - grey).mean()) < 0.15


def test_phones_clips_are_turned_upright(tmp_path):
    """The matrix of a track's header (ISO 14496-12, 8.3.2), as a phone writes it that was held upright."""
    expected = frames(2)
    write_clip(tmp_path / "a.mp4", expected, 8)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: 40 bytes from its version to the matrix
    for turn, (a, b, c, d) in {-1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 1: (0, -1, 1, 0)}.items():
        values = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        data[at : at + 36] = b"".join((value & 0xFFFFFFFF).to_bytes(4, "big") for value in values)
        (tmp_path / "turned.mp4").write_bytes(data)
        pixels, _ = read(tmp_path / "turned.mp4")
        assert (pixels == np.rot90(read(tmp_path / "a.mp4")[0], turn, axes=(1, 2))).all()


def test_transparent_frames_lie_on_white(tmp_path):
    clear = [Image.new("RGBA", (8, 8), (255, 0, 0, alpha)) for alpha in (0, 255)]
    clear[0].save(tmp_path / "a.webp", save_all=True, append_images=clear[1:], duration=100, lossless=True)
    pixels, _ = read(tmp_path / "a.webp")
    assert (pixels[0] == 255).all()
    assert (pixels[1] == (255, 0, 0)).all()

"""Colours, order and tags of video files, as other readers find them too."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from shared.artifacts.formats.video_file import TO_RGB, TO_YUV, read_video, write_video
from shared.errors import InputError

SIZES = [(64, 64), (66, 62), (130, 94)]
COLOURS = [(220, 30, 20), (20, 60, 220), (240, 240, 10), (255, 255, 255), (0, 0, 0), (30, 160, 60), (128, 128, 128)]


def waves(height: int, width: int, count: int = 4) -> np.ndarray:
    """Smooth colours of every kind that move; none is cut off at black or white."""
    y, x, t, c = np.meshgrid(*map(np.arange, (height, width, count, 3)), indexing="ij")
    levels = 128 + 100 * np.sin(x / 11 + 0.3 * t + 2 * c) * np.cos(y / 13 + c)
    return np.ascontiguousarray(levels.round().astype(np.uint8).transpose(2, 0, 1, 3))


def bias(seen: np.ndarray, meant: np.ndarray) -> float:
    return float(np.abs((seen.astype(float) - meant).mean((0, 1, 2))).max())


def exact_rgb(frame: av.VideoFrame, matrix: tuple[float, float]) -> np.ndarray:
    """ITU-R BT.601 (BT.709), equations for 8-bit video of limited range, in float64; chroma repeated."""
    red, blue = matrix
    planes = [np.asarray(frame.to_ndarray(format="yuv420p"))]
    height, width = frame.height, frame.width
    flat = planes[0].reshape(-1)
    luma = (flat[: height * width].reshape(height, width) - 16.0) / 219
    cb, cr = ((flat[height * width :].reshape(2, height // 2, width // 2) - 128.0) / 224).repeat(2, 1).repeat(2, 2)
    r, b = luma + 2 * (1 - red) * cr, luma + 2 * (1 - blue) * cb
    green = (luma - red * r - blue * b) / (1 - red - blue)
    return np.stack([r, green, b], -1) * 255


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("space", [Colorspace.ITU601, Colorspace.ITU709])
def test_the_conversions_round_and_have_no_bias(height: int, width: int, space: Colorspace) -> None:
    """Measured: at most 0.02 levels, and swscale's short cuts 1.1 to 1.4 a cycle."""
    frames = waves(height, width)
    now = frames
    for cycle in range(6):
        seen = []
        for frame in now:
            yuv = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=space, dst_color_range=ColorRange.MPEG, interpolation=TO_YUV
            )
            rgb = yuv.reformat(format="rgb24", dst_color_range=ColorRange.JPEG, interpolation=TO_RGB).to_ndarray()
            if cycle == 0:
                exact = exact_rgb(yuv, (0.299, 0.114) if space is Colorspace.ITU601 else (0.2126, 0.0722))
                assert bias(rgb[None], exact[None]) < 0.1
            seen.append(rgb)
        now = np.stack(seen)
    assert bias(now, frames) < 0.1


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mov"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_clip_read_and_written_again_keeps_its_brightness_and_place(
    tmp_path: Path, suffix: str, height: int, width: int
) -> None:
    """Chroma that is written between its pixels and read at the left of them would wander: 19 levels after six."""
    frames = now = waves(height, width)
    errors = []
    for cycle in range(6):
        write_video(tmp_path / f"a{suffix}", now, Fraction(8), {})
        now = read_video(tmp_path / f"a{suffix}").frames
        assert bias(now, frames) < (0.1 if cycle == 0 else 0.3)  # the codec's own share
        errors.append(float(np.sqrt(np.mean((now.astype(float) - frames) ** 2))))
    assert errors[-1] < errors[0] + 1


@pytest.mark.parametrize(("suffix", "matrix", "curve"), [(".mp4", 6, 13), (".webm", 6, 13), (".mov", 1, 1)])
def test_colours_are_kept_and_tagged_for_other_readers(tmp_path: Path, suffix: str, matrix: int, curve: int) -> None:
    """A wrong matrix or range would shift a flat colour by 10 and more; rounding to 8 bits of YUV moves it by 2."""
    file = tmp_path / f"a{suffix}"
    for colour in COLOURS:
        write_video(file, np.full((2, 32, 32, 3), colour, np.uint8), Fraction(8), {})
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            frame = next(container.decode(stream))
            plain = frame.to_ndarray(format="rgb24")
            assert (frame.colorspace, frame.color_range) == (matrix, 1)
            assert (frame.color_primaries, frame.color_trc) == (1, curve)
        for seen, most in ((read_video(file).frames, 2), (plain, 3)):
            assert np.abs(seen.reshape(-1, 3).astype(int) - colour).max() <= most


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_index_lies_before_the_frames(tmp_path: Path, suffix: str) -> None:
    """The boxes of ISO 14496-12: a length and a name each."""
    file = tmp_path / f"a{suffix}"
    write_video(file, waves(64, 64), Fraction(8), {"kinoform": "x" * 100_000})
    data, place, names = file.read_bytes(), 0, []
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        names.append(data[place + 4 : place + 8])
        place += length
    assert place == len(data)
    assert names.index(b"moov") < names.index(b"mdat")
    assert len(read_video(file).frames) == 4


def test_a_film_that_lies_on_its_side_is_stood_up(tmp_path: Path) -> None:
    """A phone notes in the track's matrix (box tkhd) how it was held; here as for a quarter turn clockwise."""
    frames = waves(32, 64)
    file = tmp_path / "a.mp4"
    write_video(file, frames, Fraction(8), {})
    upright = read_video(file).frames
    data = bytearray(file.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one = 0x10000
    turned = (0, one, 0, -one & 0xFFFFFFFF, 0, 0, 32 * one, 0, 0x40000000)
    data[matrix : matrix + 36] = b"".join(number.to_bytes(4, "big") for number in turned)
    file.write_bytes(data)
    assert np.array_equal(read_video(file).frames, np.rot90(upright, -1, (1, 2)))


def test_a_file_without_a_picture(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match="expected a video, got no picture in it"):
        read_video(tmp_path / "a.mkv")

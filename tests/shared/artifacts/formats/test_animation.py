"""Animated pictures as other readers find them, and that nothing of them is lost."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from shared.artifacts.formats.animation import animation_tags, read_animation, write_animation

LOSSLESS = [".webp", ".apng"]


def dots(count: int = 9, height: int = 33, width: int = 47) -> np.ndarray:
    """A speckled square that wanders from corner to corner, with frames that equal the one before them."""
    generator = np.random.default_rng(0)
    frames = np.full((count, height, width, 3), 150, np.uint8)
    for index, frame in enumerate(frames):
        frame[index : index + 7, 3 * index : 3 * index + 7] = generator.integers(0, 256, (7, 7, 3))
    frames[4] = frames[5] = frames[3]
    frames[-1, 0, 0] = frames[-1, -1, -1] = 7
    return frames


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_every_frame_comes_back_and_pillow_sees_what_we_see(tmp_path: Path, suffix: str) -> None:
    file, frames = tmp_path / f"a{suffix}", dots()
    for clip in (frames, frames[:1], np.repeat(frames[:1], 5, 0), frames[:, :1, :1], frames[:, :2, :3]):
        clip = np.ascontiguousarray(clip)
        write_animation(file, clip, Fraction(8), {})
        assert np.array_equal(read_animation(file).frames, clip)
        with Image.open(file) as picture:
            assert getattr(picture, "n_frames", 1) == len(clip)
            seen = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
            durations = [frame.info.get("duration") for frame in ImageSequence.Iterator(picture)]
            loops = picture.info.get("loop")
        assert np.array_equal(np.stack(seen), clip)
        assert durations == [125] * len(clip)
        assert loops == 0  # for ever


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_what_stands_still_costs_little(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    sizes = []
    for count in (1, 30):
        write_animation(tmp_path / f"a{suffix}", np.repeat(noise, count, 0), Fraction(8), {})
        sizes.append((tmp_path / f"a{suffix}").stat().st_size)
    assert sizes[1] < sizes[0] + 30 * 150


@pytest.mark.parametrize("fps", [8, 24000 / 1001, 30, 60000 / 1001, 1 / 7])
def test_time_is_kept(tmp_path: Path, fps: float) -> None:
    rate = Fraction(fps).limit_denominator(1001)
    write_animation(tmp_path / "a.apng", dots(), rate, {})
    assert read_animation(tmp_path / "a.apng").fps == pytest.approx(fps, rel=1e-6)
    write_animation(tmp_path / "a.webp", dots(), rate, {})
    assert 9 / read_animation(tmp_path / "a.webp").fps == pytest.approx(9 / fps, abs=0.0005)


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_texts_of_any_length_and_language(tmp_path: Path, suffix: str) -> None:
    for text in ('{"prompt": "a"}', json.dumps({"prompt": "éü 日本 🦆 " * 9000}, ensure_ascii=False)):
        write_animation(tmp_path / f"a{suffix}", dots(), Fraction(8), {"kinoform": text})
        assert animation_tags(tmp_path / f"a{suffix}") == {"kinoform": text}
        assert read_animation(tmp_path / f"a{suffix}").tags == {"kinoform": text}


def test_the_transparent_lies_on_white(tmp_path: Path) -> None:
    layers = [Image.new("RGBA", (8, 8), (255, 0, 0, alpha)) for alpha in (0, 255)]
    for suffix, kind in ((".webp", "WEBP"), (".apng", "PNG")):
        layers[0].save(
            tmp_path / f"a{suffix}", kind, save_all=True, append_images=layers[1:], lossless=True, duration=100
        )
        frames = read_animation(tmp_path / f"a{suffix}").frames
        assert [tuple(frame[0, 0]) for frame in frames] == [(255, 255, 255), (255, 0, 0)]

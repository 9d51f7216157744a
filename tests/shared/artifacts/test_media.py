import io
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from shared.artifacts.media import CLIP_SUFFIXES, TAG, is_clip, read_clip, read_clip_tags, write_clip, write_image
from shared.errors import InputError, KinoformError

ROOT = Path(__file__).resolve().parents[3]
NAMES = ["a.mp4", "a.webm", "a.mov", "a.gif", "a.webp", "a.apng", "a"]
LOSSLESS = ["a.webp", "a.apng", "a"]


def scene(frames: int = 16, size: int = 64) -> np.ndarray:
    """A red ball that crosses a grey scene with a blue square: what our clips look like."""
    y, x = np.mgrid[:size, :size]
    clip = np.full((frames, size, size, 3), 150, np.uint8)
    for index, frame in enumerate(clip):
        frame[40:60, 40:60] = (20, 60, 220)
        frame[(x - 16 - 2 * index) ** 2 + (y - 24) ** 2 < 144] = (220, 30, 20)
    return clip


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("count", "fps"), [(16, 8), (1, 8), (5, 24000 / 1001), (3, 30)])
def test_a_clip_comes_back(tmp_path: Path, name: str, count: int, fps: float) -> None:
    frames = scene()[:count]
    write_clip(tmp_path / name, frames, fps, {TAG: '{"prompt": "a \\u00e9"}'})
    clip = read_clip(tmp_path / name)
    assert clip.frames.shape == frames.shape
    # A GIF counts time in hundredths of a second, WebP in thousandths; the others hold the rate exactly.
    hundredth = {"a.gif": 0.5, "a.webp": 0.05}.get(name, 1e-6)
    assert abs(100 * count / clip.fps - 100 * count / fps) <= hundredth
    assert clip.tags.get("comment", clip.tags.get(TAG)) == '{"prompt": "a \\u00e9"}'
    assert read_clip_tags(tmp_path / name) == clip.tags
    if name in LOSSLESS:
        assert np.array_equal(clip.frames, frames)
    else:  # halved chroma and 256 colours: measured 31.6 and above on this scene
        assert psnr(clip.frames, frames) > 30


def test_same_frames_give_the_same_bytes_whatever_memory_held_before(tmp_path: Path) -> None:
    """In new processes whose C library fills fresh memory with other values (MALLOC_PERTURB_): an encoder that reads
    what it never wrote shows. One process would show it now and then only."""
    frames = scene(6)
    frames += np.random.default_rng(0).integers(0, 20, frames.shape, dtype=np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    program = (
        "import sys, numpy as np\nfrom shared.artifacts.media import write_clip\n"
        "for name in sys.argv[3:]:\n"
        "    write_clip(f'{sys.argv[2]}/{name}', np.load(sys.argv[1]), 8, {'kinoform': 'x'})"
    )
    seen = []
    for fill in ("0", "85", "170"):
        (tmp_path / fill).mkdir()
        arguments = [sys.executable, "-c", program, tmp_path / "frames.npy", tmp_path / fill, *NAMES]
        subprocess.run(arguments, cwd=ROOT, check=True, timeout=120, env={**os.environ, "MALLOC_PERTURB_": fill})
        files = sorted(file for file in (tmp_path / fill).rglob("*") if file.is_file())
        seen.append({str(file.relative_to(tmp_path / fill)): file.read_bytes() for file in files})
    assert len(seen[0]) == 6 + 6 + 1
    assert [name for name in seen[0] if not seen[0][name] == seen[1][name] == seen[2][name]] == []


def test_the_files_hold_what_their_names_say(tmp_path: Path) -> None:
    for name, codec, container, pixels in [
        ("a.mp4", "h264", "mp4", "yuv420p"),
        ("a.webm", "vp9", "webm", "yuv420p"),
        ("a.mov", "prores", "mov", "yuv444p12le"),  # so its decoder gives the 10 bits that it was made from
    ]:
        write_clip(tmp_path / name, scene(3), 8, {"title": "a red ball"})
        with av.open(str(tmp_path / name)) as opened:
            stream = opened.streams.video[0]
            assert (stream.codec_context.name.removeprefix("lib"), stream.pix_fmt) == (codec, pixels)
            assert container in opened.format.name.split(",")
            assert stream.average_rate == Fraction(8)
            assert {k.lower(): v for k, v in opened.metadata.items()}["title"] == "a red ball"


def test_a_long_record_in_any_language_survives(tmp_path: Path) -> None:
    text = json.dumps({"prompt": "éü 日本 🦆 " * 5000}, ensure_ascii=False)
    for name in NAMES:
        write_clip(tmp_path / name, scene(2), 8, {TAG: text})
        tags = read_clip_tags(tmp_path / name)
        assert tags.get("comment", tags.get(TAG)) == text


def test_a_still_gif_keeps_every_frame_and_a_moving_one_its_time(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.gif", np.repeat(scene(1), 16, axis=0), 8)
    with Image.open(tmp_path / "a.gif") as picture:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
        assert picture.info["loop"] == 0
    assert len(durations) == 16
    assert set(durations) == {120, 130}  # 12.5 hundredths of a second each
    assert sum(durations) == 2000


@pytest.mark.parametrize(
    ("frames", "got"),
    [
        (np.zeros((2, 4, 4, 3)), "float64"),
        (np.zeros((2, 4, 4, 3), np.int64), "int64"),
        (np.zeros((4, 4, 3), np.uint8), r"uint8 \(4, 4, 3\)"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"uint8 \(2, 3, 4, 4\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), r"uint8 \(2, 4, 4, 4\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), r"uint8 \(0, 4, 4, 3\)"),
        (np.zeros((2, 0, 4, 3), np.uint8), r"uint8 \(2, 0, 4, 3\)"),
    ],
)
def test_only_uint8_rgb_frames_are_written(tmp_path: Path, frames: np.ndarray, got: str) -> None:
    for name in NAMES:
        with pytest.raises(KinoformError, match=got):
            write_clip(tmp_path / name, frames, 8)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 241])
def test_a_rate_that_is_none(tmp_path: Path, fps: float) -> None:
    with pytest.raises(InputError, match="fps: expected a number above 0, up to 240"):
        write_clip(tmp_path / "a.mp4", scene(1), fps)


def test_odd_sizes(tmp_path: Path) -> None:
    for height, width in [(33, 64), (64, 33)]:
        frames = np.random.default_rng(0).integers(0, 255, (2, height, width, 3), dtype=np.uint8)
        for name in ("a.mp4", "a.webm", "a.mov"):
            with pytest.raises(InputError, match=f"expected an even width and height, got {width}x{height}"):
                write_clip(tmp_path / name, frames, 8)
        for name in ("a.gif", *LOSSLESS):
            write_clip(tmp_path / name, frames, 8)
            assert read_clip(tmp_path / name).frames.shape == frames.shape
    for size in (2, 4, 6, 10):
        for name in NAMES:
            write_clip(tmp_path / name, np.zeros((2, size, size, 3), np.uint8), 8)
            assert read_clip(tmp_path / name).frames.shape == (2, size, size, 3)


def test_what_does_not_fit_a_format(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"a name ending in .mp4, .webm, .mov, .gif, .webp, .apng or a folder, got .*a.avi"
    ):
        write_clip(tmp_path / "a.avi", scene(1), 8)
    for suffix, most in ((".gif", 50), (".webp", 90), (".apng", 90)):
        with pytest.raises(InputError, match=rf"fps for \{suffix}: expected at most {most}"):
            write_clip(tmp_path / f"a{suffix}", scene(1), most + 1)
    with pytest.raises(KinoformError, match="tags: expected keys among kinoform, title, got artist"):
        write_clip(tmp_path / "a.mp4", scene(1), 8, {"artist": "x"})
    assert CLIP_SUFFIXES == (".mp4", ".webm", ".mov", ".gif", ".webp", ".apng", "")


def damaged(folder: Path) -> list[Path]:
    """Files that are no clips, each in its own way."""
    for name in NAMES:
        write_clip(folder / name, scene(4), 8)
    for name in NAMES[:-1]:
        data = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(data[: len(data) // 3])
        (folder / f"text_{name}").write_text("no clip at all")
        (folder / f"empty_{name}").write_bytes(b"")
    (folder / "nothing").mkdir()
    (folder / "sound.mp4").write_bytes(sound())
    write_clip(folder / "fewer", scene(4), 8)
    (folder / "fewer" / "frame_00003.png").unlink()
    write_clip(folder / "broken", scene(4), 8)
    (folder / "broken" / "clip.json").write_text("{")
    write_clip(folder / "keys", scene(4), 8)
    (folder / "keys" / "clip.json").write_text('{"fps": "fast", "frames": 4, "tags": {}}')
    write_clip(folder / "sizes", scene(2), 8)
    Image.new("RGB", (3, 3)).save(folder / "sizes" / "frame_00001.png")
    return [folder / "missing.mp4", *(f for f in folder.iterdir() if f.name not in NAMES)]


def sound() -> bytes:
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return data.getvalue()


def test_what_is_no_clip_is_one_line(tmp_path: Path) -> None:
    files = damaged(tmp_path)
    assert len(files) == 25
    for file in files:
        with pytest.raises(InputError, match="clip") as caught:
            read_clip(file)
        assert file.name in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_picture_is_told_from_a_clip_where_both_have_the_ending(tmp_path: Path) -> None:
    for name in NAMES:
        write_clip(tmp_path / name, scene(2), 8)
        assert is_clip(tmp_path / name)
    for name in ("b.png", "b.jpg", "b.webp"):
        write_image(tmp_path / name, scene(1)[0])
        assert not is_clip(tmp_path / name)
    (tmp_path / "a.apng").rename(tmp_path / "moving.png")
    assert is_clip(tmp_path / "moving.png")
    assert np.array_equal(read_clip(tmp_path / "moving.png").frames, scene(2))
    assert not is_clip(tmp_path / "a.txt")

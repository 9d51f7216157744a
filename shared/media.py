"""Clips to files and back: MP4 (H.264), WebM (VP9), GIF, a folder of PNGs. Images and contact sheets are handed on.

Frames are uint8 arrays `t h w 3`, RGB, nothing else. The same frames always give the same file bytes: one encoder
thread, no clock and no random identifiers in the container. Texts travel in the file: see `TAG`. No torch here.
Video is read through imageio; it is written with PyAV, imageio's own backend, because fixed bytes need settings of the
encoder and the container that imageio does not hand on.
"""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio.v3 as iio
import numpy as np
from av.video.reformatter import Interpolation
from jaxtyping import UInt8
from PIL import GifImagePlugin, Image, ImageSequence

from shared.errors import InputError, KinoformError
from shared.files import atomic_folder, write_bytes
from shared.pictures import DECOMPRESSION_BOMBS as BOMBS
from shared.pictures import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from shared.pictures import TAG, checked_frames, checked_suffix, read_image
from shared.pictures import read_image_text as read_image_text
from shared.pictures import sidecar as sidecar
from shared.pictures import write_image as write_image

CLIP_SUFFIXES = (".mp4", ".webm", ".gif", "")  # "" is a folder of PNGs
SEQUENCE_FILE = "clip.json"  # in a folder of PNGs: frames a second, and the tags
SEQUENCE = (SEQUENCE_FILE, "frame_*.png")  # all that such a folder holds

MAX_FPS = 240
MAX_CLIP_BYTES = 4 * 1024**3  # of decoded frames; a longer clip has to be cut before it fits in memory

# Constant quality, chosen by eye on 64x64 clips: what is left to see is the halved chroma resolution of yuv420p.
ENCODERS: dict[str, tuple[str, str, dict[str, str]]] = {
    # mbtree: x264's macroblock tree reads memory that it never wrote, and its output then varies from run to run.
    ".mp4": ("mp4", "libx264", {"crf": "16", "preset": "medium", "x264-params": "mbtree=0"}),
    ".webm": ("webm", "libvpx-vp9", {"crf": "16", "b": "0", "cpu-used": "2", "row-mt": "0"}),
}
BT601, MPEG_RANGE = 6, 1  # what players assume of small clips without a colour tag; the tag says so as well
TO_YUV = Interpolation.AREA  # each chroma sample is the mean of its 2x2 pixels


@dataclass(frozen=True)
class Clip:
    """Frames `t h w 3` uint8 RGB, frames a second, and the texts that the file carried (keys in lower case)."""

    frames: UInt8[np.ndarray, "t h w 3"]
    fps: float
    tags: dict[str, str] = field(default_factory=dict)


def write_clip(
    path: str | os.PathLike[str], frames: np.ndarray, fps: float, tags: Mapping[str, str] | None = None
) -> None:
    """Write frames `t h w 3` to `path` in the format of its ending; no ending, or a slash, is a folder of PNGs.

    `tags` may hold TAG and, for MP4 and WebM, "title". InputError: a format that is not known, odd width or height for
    MP4 and WebM (their colour has half the resolution), more than 50 fps in a GIF. KinoformError: frames that are not
    uint8 RGB. Whole or not at all, as `shared.files` says.
    """
    suffix = checked_suffix(path, CLIP_SUFFIXES)
    frames, rate, tags = checked_frames(frames), _checked_fps(fps), dict(tags or {})
    if suffix == "":
        _write_sequence(path, frames, rate, tags)
    else:
        encode = _encode_gif if suffix == ".gif" else _encode_video
        write_bytes(path, encode(frames, rate, tags, suffix))


def read_clip(path: str | os.PathLike[str]) -> Clip:
    """Every frame of a clip file, or of a folder of PNGs that `write_clip` wrote. InputError when it is none."""
    source = Path(path)
    with _readable(source):
        if source.is_dir():
            clip = _read_sequence(source)
        else:
            clip = _read_gif(source) if source.suffix.lower() == ".gif" else _read_video(source)
    if not len(clip.frames):
        raise InputError(f"clip {path}", expected="frames", got="none")
    return clip


def read_clip_tags(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that a clip carries, without decoding it. InputError when it is no clip."""
    source = Path(path)
    with _readable(source):
        if source.is_dir():
            return dict(_sequence_about(source)["tags"])
        if source.suffix.lower() == ".gif":
            with Image.open(source, formats=["GIF"]) as picture:
                return _gif_tags(picture)
        with _open_video(source) as video:
            return _video_tags(video)


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    """Whatever a damaged or foreign file makes the decoders raise, as one InputError."""
    if not source.exists():
        raise InputError("clip", expected="a file that exists", got=str(source))
    try:
        yield
    except (av.FFmpegError, OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, *BOMBS) as error:
        raise InputError(
            f"clip {source}", expected="a readable clip", got=str(error) or type(error).__name__
        ) from error


def _checked_fps(fps: float) -> Fraction:
    if not 0 < fps <= MAX_FPS:  # NaN is not, either
        raise InputError("fps", expected=f"a number above 0, up to {MAX_FPS}", got=fps)
    return max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))  # 24000/1001 and its like stay exact


def _comment(tags: Mapping[str, str], also: tuple[str, ...]) -> str:
    unknown = sorted(set(tags) - {TAG, *also})
    if unknown:
        raise KinoformError("tags", expected=f"keys among {', '.join((TAG, *also))}", got=", ".join(unknown))
    return tags.get(TAG, "")


def _encode_video(frames: np.ndarray, rate: Fraction, tags: Mapping[str, str], suffix: str) -> bytes:
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise InputError(f"size for {suffix}", expected="an even width and height", got=f"{width}x{height}")
    container_format, codec, options = ENCODERS[suffix]
    comment = _comment(tags, also=("title",))
    data = io.BytesIO()
    # bitexact: no library version, clock or random identifier in the container.
    with av.open(data, "w", format=container_format, options={"fflags": "+bitexact"}) as container:
        container.metadata.update({k: v for k, v in {"comment": comment, "title": tags.get("title")}.items() if v})
        stream: Any = container.add_stream(codec, rate=rate, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        context.time_base = 1 / rate
        context.color_range = MPEG_RANGE
        context.colorspace = context.color_primaries = context.color_trc = BT601
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=BT601, dst_color_range=MPEG_RANGE, interpolation=TO_YUV
            )
            picture.pts, picture.time_base = index, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return data.getvalue()


def _read_video(source: Path) -> Clip:
    with _open_video(source) as video:
        frames: list[np.ndarray] = []
        for frame in video.iter():
            frames.append(frame)
            if len(frames) * frames[0].nbytes > MAX_CLIP_BYTES:
                raise InputError(
                    f"clip {source}", expected="a clip that fits in memory", got=f"over {len(frames)} frames"
                )
            if frames[-1].shape != frames[0].shape:
                raise InputError(f"clip {source}", expected="frames of one size", got=frames[-1].shape)
        fps, tags = float(video.metadata()["fps"]), _video_tags(video)
    return Clip(np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8), fps, tags)


def _open_video(source: Path) -> Any:
    return iio.imopen(source, "r", plugin="pyav")


def _video_tags(video: Any) -> dict[str, str]:
    return {key.lower(): value for key, value in video.container_metadata.items()}  # Matroska writes keys in capitals


def _encode_gif(frames: np.ndarray, rate: Fraction, tags: Mapping[str, str], suffix: str) -> bytes:
    """One palette for the whole clip, so that flat colours do not flicker, and every frame kept, equal ones as well."""
    if rate > 50:
        raise InputError("fps for .gif", expected="at most 50", got=float(rate))
    comment = _comment(tags, also=()).encode()
    count, height, width = frames.shape[:3]
    pixels = frames.reshape(-1, 1, 3)
    palette = Image.fromarray(pixels[:: max(1, len(pixels) // 2**20)]).quantize(256)
    colours = (palette.getpalette() or []) + [0] * 768
    blocks = [b"GIF89a", struct.pack("<HHBBB", width, height, 0xF7, 0, 0), bytes(colours[:768])]
    blocks.append(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # for ever
    if comment:
        parts = [comment[i : i + 255] for i in range(0, len(comment), 255)]
        blocks += [b"!\xfe", *(bytes([len(part)]) + part for part in parts), b"\0"]
    ends = [round(Fraction(100 * i) / rate) for i in range(count + 1)]  # a GIF counts hundredths of a second
    for frame, start, end in zip(frames, ends, ends[1:], strict=False):
        picture = Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        blocks += GifImagePlugin.getdata(picture, duration=10 * (end - start))
    return b"".join([*blocks, b";"])


def _read_gif(source: Path) -> Clip:
    with Image.open(source, formats=["GIF"]) as picture:
        frames, seconds = [], 0.0
        for frame in ImageSequence.Iterator(picture):
            frames.append(np.array(frame.convert("RGB")))
            seconds += frame.info.get("duration", 0) / 1000
        tags = _gif_tags(picture)
    return Clip(np.stack(frames), len(frames) / seconds if seconds else 10.0, tags)


def _gif_tags(picture: Image.Image) -> dict[str, str]:
    comment = picture.info.get("comment", b"").decode("utf-8", "replace")
    return {"comment": comment} if comment else {}


def _write_sequence(path: str | os.PathLike[str], frames: np.ndarray, rate: Fraction, tags: Mapping[str, str]) -> None:
    with atomic_folder(path, owned=SEQUENCE) as folder:
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / f"frame_{index:05d}.png")
        about = {"fps": float(rate), "frames": len(frames), "tags": dict(tags)}
        (folder / SEQUENCE_FILE).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _read_sequence(folder: Path) -> Clip:
    about = _sequence_about(folder)
    frames = [read_image(file) for file in sorted(folder.glob("frame_*.png"))]
    if len(frames) != about["frames"]:
        raise InputError(f"clip {folder}", expected=f"{about['frames']} frames", got=len(frames))
    return Clip(np.stack(frames), float(about["fps"]), dict(about["tags"]))


def _sequence_about(folder: Path) -> dict[str, Any]:
    file = folder / SEQUENCE_FILE
    if not file.is_file():
        raise InputError(f"clip {folder}", expected=f"a folder with {SEQUENCE_FILE}", got="none in it")
    about = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(about, dict) or set(about) != {"fps", "frames", "tags"} or not isinstance(about["tags"], dict):
        raise InputError(f"file {file}", expected="fps, frames and tags", got=about)
    return about

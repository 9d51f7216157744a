"""MP4 (H.264), WebM (VP9) and MOV (ProRes 4444) to files and back, through PyAV; other video files are read too.

The same frames always give the same bytes: one encoder thread, no clock and no random identifiers in the container.

Colour. Pixels are sRGB, and the files say so: its primaries (those of BT.709) and its transfer curve (IEC 61966-2-1),
by which players show the same colours as for a PNG. MP4 and WebM use the BT.601 matrix, as JPEG does (sYCC): readers
that heed the tag and those that assume it of small clips agree. ProRes is BT.709 throughout: its frame header knows no
sRGB, and editors take what is neither for BT.709, whose video they show as sRGB shows pictures.
swscale's short cuts darken by a level at each conversion; `TO_YUV` and `TO_RGB` ask it to round instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

from shared.artifacts.files import atomic_path
from shared.artifacts.formats.clip import Clip, Frames, comment_of
from shared.errors import InputError

ROUNDED = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
TO_YUV = Interpolation.AREA | ROUNDED | Interpolation.BITEXACT  # each chroma sample is the mean of its 2x2 pixels
TO_RGB = Interpolation.BICUBIC | ROUNDED | Interpolation.BITEXACT

HD_HEIGHT = 720  # from here on players take a clip without a colour tag for BT.709, below for BT.601


@dataclass(frozen=True)
class Encoder:
    """matrix: swscale's name of it; tags: matrix, primaries and transfer as the file names them."""

    container: str
    codec: str
    pixels: str
    matrix: Colorspace
    tags: tuple[int, int, int]
    options: dict[str, str]
    container_options: dict[str, str] = field(default_factory=dict)


SRGB_IN_601 = (6, ColorPrimaries.BT709, ColorTrc.IEC61966_2_1)
BT709 = (1, ColorPrimaries.BT709, ColorTrc.BT709)
# Constant quality, chosen on 64x64 clips: what is left to see is the halved chroma resolution of yuv420p. Of x264's own
# loss, 12 leaves a mean of less than 0.1 levels (16: up to 0.17), for clips are read again to score and to train.
# mbtree: x264's macroblock tree reads memory that it never wrote, and its output then varies from run to run.
# chromaloc: chroma samples lie between their four pixels, as TO_YUV makes them, not at the left two.
# faststart: the index before the frames, so that players begin before the whole file is there.
ENCODERS = {
    ".mp4": Encoder(
        "mp4",
        "libx264",
        "yuv420p",
        Colorspace.ITU601,
        SRGB_IN_601,
        {"crf": "12", "preset": "medium", "x264-params": "mbtree=0:chromaloc=1"},
        {"movflags": "+faststart"},
    ),
    ".webm": Encoder(
        "webm",
        "libvpx-vp9",
        "yuv420p",
        Colorspace.ITU601,
        SRGB_IN_601,
        {"crf": "16", "b": "0", "cpu-used": "2", "row-mt": "0"},
    ),
    ".mov": Encoder(
        "mov",
        "prores_ks",
        "yuv444p10le",
        Colorspace.ITU709,
        BT709,
        {"profile": "4444", "vendor": "apl0"},
        {"movflags": "+faststart+use_metadata_tags"},  # QuickTime's older texts end at 64 kB
    ),
}


def write_video(path: str | os.PathLike[str], frames: np.ndarray, rate: Fraction, tags: Mapping[str, str]) -> None:
    """Write frames `t h w 3` in the format of the path's ending, one of ENCODERS, with TAG and "title" of `tags`."""
    suffix = Path(path).suffix.lower()
    encoder, (height, width) = ENCODERS[suffix], frames.shape[1:3]
    if height % 2 or width % 2:
        raise InputError(f"size for {suffix}", expected="an even width and height", got=f"{width}x{height}")
    texts = {"comment": comment_of(tags, also=("title",)), "title": tags.get("title")}
    # bitexact: no library version, clock or random identifier in the container.
    options = {"fflags": "+bitexact", **encoder.container_options}
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format=encoder.container, options=options) as container,
    ):
        container.metadata.update({key: text for key, text in texts.items() if text})
        stream: Any = container.add_stream(encoder.codec, rate=rate, options=dict(encoder.options))
        stream.width, stream.height, stream.pix_fmt = width, height, encoder.pixels
        context = stream.codec_context
        context.thread_count = 1
        context.time_base = 1 / rate
        context.color_range = ColorRange.MPEG
        context.colorspace, context.color_primaries, context.color_trc = encoder.tags
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format=encoder.pixels,
                dst_colorspace=encoder.matrix,
                dst_color_range=ColorRange.MPEG,
                interpolation=TO_YUV,
            )
            picture.colorspace, picture.color_primaries, picture.color_trc = encoder.tags
            picture.pts, picture.time_base = index, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def read_video(source: Path) -> Clip:
    """Every frame of a video file, upright. Raises InputError, and what PyAV raises for a damaged file."""
    frames = Frames(source)
    with av.open(str(source)) as container:
        stream = _video_stream(container, source)
        for frame in container.decode(stream):
            frames.add(np.rot90(_to_rgb(frame), frame.rotation // 90))
        rate = stream.average_rate or stream.guessed_rate
        fps = float(rate) if rate else len(frames.frames) * av.time_base / max(container.duration or 0, 1)
        return Clip(frames.stacked(), fps, _texts(container))


def video_tags(source: Path) -> dict[str, str]:
    """The texts that a video file carries, keys in lower case. Raises as `read_video` does."""
    with av.open(str(source)) as container:
        _video_stream(container, source)
        return _texts(container)


def _video_stream(container: Any, source: Path) -> Any:
    if not container.streams.video:
        raise InputError(f"clip {source}", expected="a video", got="no picture in it")
    return container.streams.video[0]


def _to_rgb(frame: av.VideoFrame) -> np.ndarray:
    untagged = frame.colorspace == 2
    picture = frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU709 if untagged and frame.height >= HD_HEIGHT else None,
        dst_color_range=ColorRange.JPEG,
        interpolation=TO_RGB,
    )
    return picture.to_ndarray()


def _texts(container: Any) -> dict[str, str]:
    return {key.lower(): value for key, value in container.metadata.items()}  # Matroska writes keys in capitals

"""Frames of users' clips, one after the other: a clip need not fit in memory. Upright RGB, transparency on white.

Files are read with PyAV, animations (GIF, WebP, PNG) with Pillow, folders of PNGs as
`shared.artifacts.media` wrote them. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation
from jaxtyping import UInt8
from PIL import Image

from shared.artifacts.formats.image_file import MAX_PIXELS
from shared.artifacts.formats.rgb import as_rgb
from shared.artifacts.media import read_clip

ANIMATIONS = (".gif", ".webp", ".png", ".apng")
# Unbiased: without these flags every channel comes out about one level too dark.
TO_RGB = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

Frame = Callable[[], UInt8[np.ndarray, "h w 3"]]


@dataclass
class Frames:
    """frames: one call each, which converts it to pixels; what is not called costs no conversion.

    promised: how many the file says that it has, 0 where it does not say. fps: frames a second, 0 where unknown; of
    animations, it is known when all frames have been seen.
    """

    frames: Iterator[Frame]
    promised: int
    fps: float


def is_animated(path: Path) -> bool:
    """Whether a file that Pillow reads holds several frames."""
    if path.suffix.lower() not in ANIMATIONS:
        return False
    with Image.open(path) as picture:
        return bool(getattr(picture, "is_animated", False))


def open_frames(path: Path) -> AbstractContextManager[Frames]:
    """The frames of a clip, to be read inside `with`. Raises what its decoder raises for a damaged file."""
    if path.is_dir():
        return _sequence(path)
    return _animation(path) if path.suffix.lower() in ANIMATIONS else _video(path)


@contextmanager
def _video(path: Path) -> Iterator[Frames]:
    with av.open(path) as container:
        if not container.streams.video:
            raise ValueError("no pictures in it")
        stream = container.streams.video[0]
        if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
            raise ValueError(f"frames of more than {MAX_PIXELS} pixels")
        rate = stream.average_rate or stream.guessed_rate
        decoded = (partial(_rgb, frame) for frame in container.decode(stream))
        yield Frames(decoded, stream.frames, float(rate or 0))


def _rgb(frame: Any) -> np.ndarray:
    clear = any(component.is_alpha for component in frame.format.components)
    pixels = frame.reformat(format="rgba" if clear else "rgb24", interpolation=TO_RGB).to_ndarray()
    if clear:
        pixels = np.asarray(as_rgb(Image.fromarray(pixels)))
    return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))  # phones note which way is up


@contextmanager
def _animation(path: Path) -> Iterator[Frames]:
    with Image.open(path) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"frames of more than {MAX_PIXELS} pixels")
        seconds = 0.0

        def each() -> Iterator[Frame]:
            nonlocal seconds
            for index in range(count):
                picture.seek(index)
                picture.load()
                seconds += float(picture.info.get("duration", 0)) / 1000
                read.fps = (index + 1) / seconds if seconds else 0.0
                yield lambda: np.array(as_rgb(picture.copy()))

        count = int(getattr(picture, "n_frames", 1))
        read = Frames(each(), count, 0.0)
        yield read


@contextmanager
def _sequence(path: Path) -> Iterator[Frames]:
    clip = read_clip(path)
    yield Frames((partial(np.array, frame) for frame in clip.frames), len(clip.frames), clip.fps)

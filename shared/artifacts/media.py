"""Clips to files and back: MP4 (H.264), WebM (VP9), MOV (ProRes), GIF, animated WebP and PNG, a folder of PNGs.

Frames are uint8 arrays `t h w 3`, RGB, nothing else. The same frames always give the same file bytes. Texts travel in
the file: see `TAG`. Images are handed on. No torch here. A module of `shared.artifacts.formats` holds what its formats
need.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from PIL import Image

from shared.artifacts.formats import animation, frame_folder, video_file
from shared.artifacts.formats.clip import Clip as Clip
from shared.artifacts.formats.clip import checked_fps
from shared.artifacts.formats.frame_folder import SEQUENCE as SEQUENCE
from shared.artifacts.formats.image_file import DECOMPRESSION_BOMBS as BOMBS
from shared.artifacts.formats.image_file import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from shared.artifacts.formats.image_file import TAG as TAG
from shared.artifacts.formats.image_file import checked_frames, checked_suffix
from shared.artifacts.formats.image_file import read_image as read_image
from shared.artifacts.formats.image_file import read_image_text as read_image_text
from shared.artifacts.formats.image_file import sidecar as sidecar
from shared.artifacts.formats.image_file import write_image as write_image
from shared.errors import InputError

VIDEO_SUFFIXES = tuple(video_file.ENCODERS)
CLIP_SUFFIXES = (*VIDEO_SUFFIXES, *animation.ANIMATED_SUFFIXES, "")  # "" is a folder of PNGs
PICTURES_THAT_MOVE = (*animation.ANIMATED_SUFFIXES, ".png")  # all that `shared.artifacts.formats.animation` reads
MAX_FPS_OF = animation.MAX_FPS  # of the formats that hold fewer than all others


def write_clip(
    path: str | os.PathLike[str], frames: np.ndarray, fps: float, tags: Mapping[str, str] | None = None
) -> None:
    """Write frames `t h w 3` to `path` in the format of its ending; no ending, or a slash, is a folder of PNGs.

    `tags` may hold TAG and, for VIDEO_SUFFIXES, "title". InputError: a format that is not known, odd width or height
    for those three, more fps than MAX_FPS_OF says. KinoformError: frames that are not uint8 RGB. Whole or not at all,
    as `shared.artifacts.files` says.
    """
    suffix = checked_suffix(path, CLIP_SUFFIXES)
    frames, rate, tags = checked_frames(frames), checked_fps(fps), dict(tags or {})
    if suffix == "":
        frame_folder.write_folder(path, frames, rate, tags)
    elif suffix in video_file.ENCODERS:
        video_file.write_video(path, frames, rate, tags)
    else:
        animation.write_animation(path, frames, rate, tags)


def read_clip(path: str | os.PathLike[str]) -> Clip:
    """Every frame of a clip file, or of a folder of PNGs that `write_clip` wrote. InputError when it is none."""
    source = Path(path)
    with _readable(source):
        if source.is_dir():
            return frame_folder.read_folder(source)
        if source.suffix.lower() in PICTURES_THAT_MOVE:
            return animation.read_animation(source)
        return video_file.read_video(source)


def read_clip_tags(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that a clip carries, without decoding it. InputError when it is no clip."""
    source = Path(path)
    with _readable(source):
        if source.is_dir():
            return frame_folder.folder_tags(source)
        if source.suffix.lower() in PICTURES_THAT_MOVE:
            return animation.animation_tags(source)
        return video_file.video_tags(source)


def is_clip(path: str | os.PathLike[str]) -> bool:
    """Whether a file or folder holds a clip and not a picture: by its ending, or, where both have it, by its frames.

    InputError for a file that is neither; a folder counts as a clip.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    if source.is_dir() or suffix not in IMAGE_SUFFIXES:
        return source.is_dir() or suffix in CLIP_SUFFIXES
    if suffix not in PICTURES_THAT_MOVE:
        return False
    with _readable(source), Image.open(source) as picture:
        return getattr(picture, "is_animated", False)


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

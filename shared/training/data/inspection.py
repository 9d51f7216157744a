"""Looks once at every file of a data folder: what is it, can it be read to its end. What was seen is kept.

Every training asks this first, so that a file that one stage leaves out is left out by all. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from shared.artifacts.files import write_bytes
from shared.artifacts.media import read_image
from shared.errors import InputError, one_line
from shared.training.data.captions import PICTURE_SUFFIXES, is_media
from shared.training.data.frames import is_animated, open_frames

BROKEN = ("Invalid data found", "End of file")  # what FFmpeg says of files that it cannot make sense of
SEEN_FILE = "files.json"
VERSION = 1  # of what is kept there
WORKERS = 4
WHOLE_SHARE = 0.9  # of the frames that a clip promises; with fewer it was cut short
Look = tuple[int, int, int, int]


@dataclass(frozen=True)
class Seen:
    """One file. kind: "picture" or "clip"; fault: why it cannot be used, or "".

    look: what it looks like, from its first frame and a late one, for finding near duplicates: for each, 64 bits, one
    for each pair of neighbours of 9x8 grey pixels (which is brighter), and the mean colour.
    """

    kind: str
    bytes: int
    modified: int
    width: int = 0
    height: int = 0
    frames: int = 0
    fps: float = 0.0
    digest: str = ""
    look: tuple[Look, ...] = ()
    fault: str = ""


def inspect(folder: Path, files: Sequence[str], cache: Path | None) -> Iterator[tuple[str, Seen]]:
    """Each file of `folder` with what it is, in order. cache: a folder to keep that in, while files do not change."""
    known = _load(cache) if cache is not None else {}
    found: dict[str, Seen] = {}

    def look(file: str) -> Seen:
        kept = known.get(file)
        return (
            kept if kept is not None and (kept.bytes, kept.modified) == _stamp(folder / file) else _see(folder / file)
        )

    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
        for file, seen in zip(files, pool.map(look, files), strict=True):
            found[file] = seen
            yield file, seen
    if cache is not None and found != known:
        kept = {"version": VERSION, "files": {file: asdict(seen) for file, seen in found.items() if seen.modified}}
        write_bytes(cache / SEEN_FILE, json.dumps(kept).encode())


def _stamp(path: Path) -> tuple[int, int]:
    """Bytes and time of change; of a folder that is a clip, those of all its files together."""
    try:
        if path.is_dir():
            stats = [entry.stat() for entry in os.scandir(path)]
            return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=1)
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    except OSError:
        return 0, 0


def _see(path: Path) -> Seen:
    size, modified = _stamp(path)
    kind = "picture" if path.suffix.lower() in PICTURE_SUFFIXES else "clip"
    fault = ""
    if not path.exists():
        fault = "is not there"
    elif not is_media(path):
        fault = f"a format that is not known ({path.suffix or 'no ending'})"
    elif not size:
        fault = "an empty file"
    if fault:
        return Seen(kind, size, modified, fault=fault)
    try:
        if is_animated(path):
            kind = "clip"
        seen = Seen(kind, size, modified, digest=_digest(path))
        return _see_clip(path, seen) if kind == "clip" else _see_picture(path, seen)
    except Exception as error:  # whatever a decoder makes of a foreign file is a fault of that file
        return Seen(kind, size, modified, fault=_reason(error, kind))


def _see_picture(path: Path, seen: Seen) -> Seen:
    pixels = read_image(path)
    return replace(seen, width=pixels.shape[1], height=pixels.shape[0], frames=1, look=(_look(pixels),))


def _see_clip(path: Path, seen: Seen) -> Seen:
    count, shape = 0, None
    looks: tuple[Look, ...] = ()
    with open_frames(path) as read:
        for frame in read.frames:
            if count & (count - 1) == 0:  # the first, and those at powers of two: few conversions, the last one late
                pixels = frame()
                if shape is not None and pixels.shape != shape:
                    raise ValueError("frames of several sizes")
                shape = pixels.shape
                looks = (*looks[:1], _look(pixels))
            count += 1
    if shape is None:
        raise ValueError("no frames in it")
    if count < WHOLE_SHARE * read.promised:
        raise ValueError(f"cut short: {count} of {read.promised} frames")
    height, width, _ = shape
    return replace(seen, width=width, height=height, frames=count, fps=round(read.fps, 3), look=looks)


def _look(pixels: np.ndarray) -> Look:
    picture = Image.fromarray(pixels)
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = "".join("1" if bit else "0" for bit in (grey[:, 1:] > grey[:, :-1]).flatten())
    red, green, blue = (int(level) for level in pixels.mean((0, 1)).round())
    return int(bits, 2), red, green, blue


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with open(file, "rb") as opened:
            while block := opened.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _reason(error: Exception, kind: str) -> str:
    cause = error.__cause__ if isinstance(error, InputError) and isinstance(error.__cause__, Exception) else error
    text = str(error.got) if isinstance(error, InputError) and cause is error else str(cause)
    if isinstance(cause, UnidentifiedImageError) or any(words in text for words in BROKEN):
        return f"damaged, cut short or no {kind}"
    if "truncated" in text.lower():
        return "cut short"
    return one_line(text or type(cause).__name__)


def _load(cache: Path) -> dict[str, Seen]:
    """What is kept; nothing where that cannot be read, for it can be made again."""
    try:
        kept = json.loads((cache / SEEN_FILE).read_bytes())
        if kept["version"] != VERSION:
            return {}
        return {file: _seen(values) for file, values in kept["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _seen(values: dict[str, object]) -> Seen:
    looks = values.pop("look")
    assert isinstance(looks, list)
    return Seen(**values, look=tuple(tuple(look) for look in looks))  # type: ignore[arg-type]

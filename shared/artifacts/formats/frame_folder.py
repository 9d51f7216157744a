"""A clip as a folder of PNGs, for editors and other programs: `frame_00000.png` and on, and `clip.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shared.artifacts.files import atomic_folder
from shared.artifacts.formats.clip import Clip, Frames
from shared.artifacts.formats.image_file import read_image
from shared.artifacts.json_text import read_json_file
from shared.errors import InputError

ABOUT = "clip.json"  # frames a second, how many, and the tags
SEQUENCE = (ABOUT, "frame_*.png")  # all that such a folder holds


def write_folder(path: str | os.PathLike[str], frames: np.ndarray, rate: Fraction, tags: Mapping[str, str]) -> None:
    """Write frames `t h w 3`. An earlier clip there is replaced, any other folder refused (`atomic_folder`)."""
    with atomic_folder(path, owned=SEQUENCE) as folder:
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / f"frame_{index:05d}.png")
        about = {"fps": float(rate), "frames": len(frames), "tags": dict(tags)}
        (folder / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_folder(folder: Path) -> Clip:
    """The clip in a folder that `write_folder` wrote. InputError when it is none."""
    about = _about(folder)
    frames = Frames(folder)
    for file in sorted(folder.glob("frame_*.png")):
        frames.add(read_image(file))
    if len(frames.frames) != about["frames"]:
        raise InputError(f"clip {folder}", expected=f"{about['frames']} frames", got=len(frames.frames))
    return Clip(frames.stacked(), float(about["fps"]), dict(about["tags"]))


def folder_tags(folder: Path) -> dict[str, str]:
    """The texts that a folder of PNGs carries. InputError when it is none."""
    return dict(_about(folder)["tags"])


def _about(folder: Path) -> dict[str, Any]:
    file = folder / ABOUT
    if not file.is_file():
        raise InputError(f"clip {folder}", expected=f"a folder with {ABOUT}", got="none in it")
    about = read_json_file(file)
    tags = about.get("tags")
    texts = isinstance(tags, dict) and all(isinstance(text, str) for text in tags.values())
    if set(about) != {"fps", "frames", "tags"} or not texts:
        raise InputError(f"file {file}", expected="fps, frames and tags", got=about)
    return about

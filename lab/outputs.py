"""Checks of what the user named on the command line, made before any model is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from dreamfusion.files.formats import ASSET_SUFFIXES, check_mesh_file
from shared.errors import InputError
from shared.files import check_writable, is_replaceable

MAX_GIF_FPS = 50  # a GIF counts hundredths of a second, and viewers slow down one


def check_clip(path: str, fps: float) -> None:
    """Refuse a clip file that could not be written at `fps`, or a folder that holds something else."""
    from shared.media import CLIP_SUFFIXES, SEQUENCE

    target = check_writable(path, CLIP_SUFFIXES)
    if target.is_dir() and not is_replaceable(target, SEQUENCE):
        raise InputError("output", expected="a new or empty folder", got=path)
    if target.suffix.lower() == ".gif" and fps > MAX_GIF_FPS:
        raise InputError("fps for .gif", expected=f"at most {MAX_GIF_FPS}", got=fps)


def check_mesh(path: str, print_size: float | None = None) -> None:
    """Refuse a mesh file that could not be written, or a print size in millimetres that its format cannot hold."""
    check_writable(path, ASSET_SUFFIXES)
    check_mesh_file(path, print_size)


def whole_number(flag: str, text: str, low: int, high: int) -> int:
    """`text` as an integer in [low, high]; InputError names the flag."""
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        raise InputError(flag, expected=f"a whole number from {low} to {high}", got=text)
    return number


def check_folder(flag: str, text: str) -> Path:
    """A folder that can be made and written to. It need not exist; an existing one keeps its files."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise InputError(flag, expected="a folder", got=text, hint="A file of that name is there")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(flag, expected="a folder that can be made", got=text, hint=error.strerror or "") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(flag, expected="a folder that can be written to", got=text)
    return path


def existing_folder(flag: str, text: str) -> Path:
    """A folder that is there."""
    path = Path(text)
    if not path.is_dir():
        raise InputError(flag, expected="a folder that exists", got=text, hint="It is a file" if path.exists() else "")
    return path

"""Checks of what the user named on the command line, made before any model is loaded."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from dreamfusion.mesh.files.formats import ASSET_SUFFIXES, check_mesh_file
from shared.artifacts.files import check_writable, is_replaceable
from shared.artifacts.provenance.signature import Signer
from shared.errors import InputError

UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def check_clip(path: str, fps: float) -> None:
    """Refuse a clip file that could not be written at `fps`, or a folder that holds something else."""
    from shared.artifacts.media import CLIP_SUFFIXES, MAX_FPS_OF, SEQUENCE

    target = check_writable(path, CLIP_SUFFIXES)
    if target.is_dir() and not is_replaceable(target, SEQUENCE):
        raise InputError("output", expected="a new or empty folder", got=path)
    suffix = target.suffix.lower()
    if fps > MAX_FPS_OF.get(suffix, fps):
        raise InputError(f"fps for {suffix}", expected=f"at most {MAX_FPS_OF[suffix]}", got=fps)


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


def parse_size(text: str) -> int:
    """Bytes of "8G", "512M", "1.5GiB". Raises InputError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if found is None or float(found[1]) <= 0:
        raise InputError("--memory", expected="a size, such as 8G or 512M", got=text)
    return int(float(found[1]) * UNITS[found[2]])


def check_folder(flag: str, text: str) -> Path:
    """A folder that files can be put into. It need not exist, and is not made here; one that does keeps its files."""
    path = Path(text)
    if not text.strip():
        raise InputError(flag, expected="a folder", got=text)
    if os.path.lexists(text) and not path.is_dir():
        raise InputError(flag, expected="a folder", got=text, hint="A file of that name is there")
    try:
        check_writable(path / ".kinoform", ("",))
    except InputError as error:
        raise InputError(flag, expected=error.expected, got=text) from error
    return path


def existing_folder(flag: str, text: str) -> Path:
    """A folder that is there."""
    path = Path(text)
    if not path.is_dir():
        raise InputError(flag, expected="a folder that exists", got=text, hint="It is a file" if path.exists() else "")
    return path


def signer(args: argparse.Namespace) -> Signer | None:
    """Who signs, by `--sign`; tried, before any work. Raises InputError where that would fail."""
    if not hasattr(args, "sign"):
        return None
    found = Signer(*map(Path, args.sign))
    found.check()
    return found

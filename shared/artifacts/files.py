"""Outputs that are whole or absent: made in a stage beside their place (`shared.artifacts.staging`), synced, renamed.

`check_writable` is asked before any work starts; `atomic_path`, `atomic_folder` and `write_bytes` do the writing, and
make the folders above an output that are not there yet.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from shared.artifacts.staging import publish, stage_for
from shared.errors import InputError, KinoformError, OutputError

FULL_DISK_BYTES = 64 * 1024  # less free space than this at the moment of a failure means that the disk was full
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WRONG_PLACE = {
    errno.ENOENT: "a place that may be written to",
    errno.ENOTDIR: "folders all the way, not a file among them",
    errno.EEXIST: "folders all the way, not a file among them",  # mkdir's word for it
    errno.EISDIR: "a file name, not a folder",
    errno.EACCES: "a place that may be written to",
    errno.EPERM: "a place that may be written to",
    errno.EROFS: "a place that may be written to",
    errno.ENAMETOOLONG: "a shorter file name",
    errno.EINVAL: "a file name that this disk allows",
    errno.ELOOP: "a path without a circle of links",
}


def check_writable(path: str | os.PathLike[str], suffixes: Collection[str]) -> Path:
    """Refuse an output path that could not be written, before the work that would be lost.

    `suffixes` are the allowed file name endings, lower case with their dot; "" among them allows a folder of files
    (a path without an ending, or with a slash at its end). Returns the path. Raises InputError: unknown ending, a
    folder where a file is wanted, a device, no right to write (tried, not asked: root may lack it as well). Missing
    folders above it are no fault, and are not made here.
    """
    text = os.fspath(path)
    if not text.strip() or "\0" in text:
        raise InputError("output", expected="a file name", got=text)
    target = Path(text)
    wants_folder = text.endswith(("/", os.sep)) or (not target.suffix and "" in suffixes)
    suffix = "" if wants_folder else target.suffix.lower()
    if suffix not in suffixes:
        endings = ", ".join(sorted(s for s in suffixes if s)) + (" or a folder" if "" in suffixes else "")
        raise InputError("output", expected=f"a name ending in {endings}", got=text)
    try:
        target = target.resolve()
        if target.exists():
            mode = target.stat().st_mode
            if wants_folder and not stat.S_ISDIR(mode):
                raise InputError("output", expected="a folder", got=text)
            if not wants_folder and not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "a device"
                raise InputError("output", expected=f"a file name, not {kind}", got=text)
            if not os.access(target, os.W_OK):
                raise InputError("output", expected="a file that may be written to", got=text)
        with stage_for(target, next(folder for folder in target.parents if folder.exists())) as probe:
            probe.touch()
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links, before Python 3.13
        raise _translated(error, text) from error
    return Path(text)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path on the disk of `path`, with the same name, which becomes `path` when the block ends well.

    Whatever goes wrong inside, an interrupt included, the temporary file goes and what was at `path` stays. A full
    disk, however the writing library reports it, is an OutputError; a place that cannot be written to an InputError.
    """
    with _output(path) as (target, temporary):
        if target.exists() and not target.is_file():
            raise InputError("output", expected="a file name, not a folder or device", got=os.fspath(path))
        temporary.touch()
        yield temporary


def is_replaceable(folder: Path, owned: tuple[str, str]) -> bool:
    """Whether a folder is empty or an earlier output: a file named owned[0], the rest named by the pattern owned[1]."""
    name, pattern = owned
    names = {entry.name for entry in folder.iterdir()}
    return not names or (name in names and all(fnmatch(other, pattern) for other in names - {name}))


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, owned: tuple[str, str]) -> Iterator[Path]:
    """Like `atomic_path`, for a folder of files.

    A folder already at `path` is replaced if it is empty or an earlier output (`is_replaceable`). Any other is an
    InputError, so nobody's own files are ever deleted. One of the two is there at every moment, or, on a system that
    cannot exchange two names, is given back by the next writer after a kill between two renames.
    """
    with _output(path) as (target, temporary):
        _check_replaceable(target, owned)
        temporary.mkdir()
        yield temporary
        _check_replaceable(target, owned)  # somebody may have put files there meanwhile


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill, which then takes the place of `target`, whatever that holds; until then the old one stays.

    For folders that are ours alone, such as a component of a model. As safe as `atomic_folder`.
    """
    with _output(target) as (_, temporary):
        temporary.mkdir()
        yield temporary


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, whole or not at all. Raises what `atomic_path` raises."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(data)


@contextmanager
def _output(path: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """The place of an output, links followed, and a temporary path that becomes it when the block ends well."""
    text = os.fspath(path)
    made: list[Path] = []
    from_block: Exception | None = None
    try:
        target = Path(text).resolve()  # through a link, so that the link itself stays
        made += [folder for folder in target.parents if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        with stage_for(target) as temporary:
            try:
                yield target, temporary
            except Exception as error:
                from_block = error
                raise
            publish(temporary, target)
    except BaseException as error:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()  # those that it made, and nobody has put anything into
        if isinstance(error, KinoformError) or not isinstance(error, Exception):
            raise
        full = _disk_is_full(error, Path(text).parent)
        if full or (error is not from_block and isinstance(error, (OSError, RuntimeError, ValueError))):
            raise _translated(error, text, full=full) from error
        raise


def _check_replaceable(target: Path, owned: tuple[str, str]) -> None:
    if target.exists() and not target.is_dir():
        raise InputError("output", expected="a folder", got=str(target))
    if target.is_dir() and not is_replaceable(target, owned):
        raise InputError("output", expected="a new or empty folder", got=str(target))


def _disk_is_full(error: BaseException, folder: Path) -> bool:
    """Whether `error` comes of a full disk. Not every library hands the errno on: its words and the disk are asked."""
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return True
    if any(os.strerror(number) in str(error) for number in NO_SPACE):
        return True
    try:
        return shutil.disk_usage(folder).free < FULL_DISK_BYTES
    except OSError:
        return False


def _translated(error: BaseException, path: str, *, full: bool = False) -> KinoformError:
    odd = errno.EINVAL if isinstance(error, ValueError) else errno.ELOOP  # a NUL in a name; links in a circle
    number = error.errno if isinstance(error, OSError) else odd
    if full or number in NO_SPACE:
        return OutputError(f"cannot write {path}: the disk is full", hint="Free some space, or write elsewhere.")
    if number in WRONG_PLACE:
        return InputError("output", expected=WRONG_PLACE[number], got=path)
    return OutputError(f"cannot write {path}: {error}")


def sha256(file: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            digest.update(block)
    return digest.hexdigest()

"""Outputs that are whole or absent: written to a temporary file beside their place, synced, renamed.

`check_writable` is asked before any work starts; `atomic_path`, `atomic_folder` and `write_bytes` do the writing.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from shared.errors import InputError, KinoformError, OutputError

FULL_DISK_BYTES = 64 * 1024  # less free space than this at the moment of a failure means that the disk was full
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WRONG_PLACE = {
    errno.ENOENT: "a folder that exists",
    errno.ENOTDIR: "a folder that exists",
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
    (a path without an ending, or with a slash at its end). Returns the path. Raises InputError: unknown ending, missing
    folder, a folder where a file is wanted, a device, no right to write (tried, not asked: root may lack it as well).
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
        folder = target.parent
        if target.exists():
            mode = target.stat().st_mode
            if wants_folder and not stat.S_ISDIR(mode):
                raise InputError("output", expected="a folder", got=text)
            if not wants_folder and not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "a device"
                raise InputError("output", expected=f"a file name, not {kind}", got=text)
            if not os.access(target, os.W_OK):
                raise InputError("output", expected="a file that may be written to", got=text)
        elif not folder.is_dir():
            raise InputError(
                "output", expected="a folder that exists", got=str(folder), hint="Create the folder first."
            )
        probe = _temporary(target)
        os.close(_create(probe))
        probe.unlink()
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links, on Python 3.10 to 3.12
        raise _translated(error, text) from error
    return Path(text)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, with the same ending, which becomes `path` when the block ends well.

    Whatever goes wrong inside, an interrupt included, the temporary file goes and what was at `path` stays. A full
    disk, however the writing library reports it, is an OutputError; a place that cannot be written to an InputError.
    """
    text = os.fspath(path)
    temporary = None
    try:
        try:
            target = Path(text).resolve()  # through a link, so that the link itself stays
            if target.exists() and not target.is_file():
                raise InputError("output", expected="a file name, not a folder or device", got=text)
            temporary = _temporary(target)
            os.close(_create(temporary))
        except (OSError, RuntimeError) as error:
            raise _translated(error, text) from error
        try:
            yield temporary
        except KinoformError:
            raise
        except Exception as error:
            if _disk_is_full(error, target.parent):
                raise _translated(error, text, full=True) from error
            raise
        try:
            _sync(temporary)
            os.replace(temporary, target)
            _sync(target.parent)
        except OSError as error:
            raise _translated(error, text, full=_disk_is_full(error, target.parent)) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def is_replaceable(folder: Path, owned: tuple[str, str]) -> bool:
    """Whether a folder is empty or an earlier output: a file named owned[0], the rest named by the pattern owned[1]."""
    name, pattern = owned
    names = {entry.name for entry in folder.iterdir()}
    return not names or (name in names and all(fnmatch(other, pattern) for other in names - {name}))


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, owned: tuple[str, str]) -> Iterator[Path]:
    """Like `atomic_path`, for a folder of files.

    A folder already at `path` is replaced if it is empty or an earlier output (`is_replaceable`). Any other is an
    InputError, so nobody's own files are ever deleted.
    """
    text = os.fspath(path)
    target = Path(text).resolve()
    temporary, old = _temporary(target), _temporary(target)
    try:
        try:
            if target.exists() and not target.is_dir():
                raise InputError("output", expected="a folder", got=text)
            if target.is_dir() and not is_replaceable(target, owned):
                raise InputError("output", expected="a new or empty folder", got=text)
            temporary.mkdir()
        except OSError as error:
            raise _translated(error, text) from error
        try:
            yield temporary
            for file in temporary.iterdir():
                _sync(file)
            if target.exists():
                os.replace(target, old)
            os.replace(temporary, target)
            _sync(target.parent)
        except KinoformError:
            raise
        except Exception as error:
            if isinstance(error, OSError) or _disk_is_full(error, target.parent):
                raise _translated(error, text, full=_disk_is_full(error, target.parent)) from error
            raise
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill, which then takes the place of `target`; the old one stays whole until then."""
    new = target.with_name(f".{target.name}-new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, whole or not at all. Raises what `atomic_path` raises."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(data)


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.stem[:40]}.{secrets.token_hex(6)}{target.suffix}")


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # 0o666: the user's umask decides


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    number = error.errno if isinstance(error, OSError) else errno.ELOOP
    if full or number in NO_SPACE:
        return OutputError(f"cannot write {path}: the disk is full", hint="Free some space, or write elsewhere.")
    if number in WRONG_PLACE:
        return InputError("output", expected=WRONG_PLACE[number], got=path)
    return OutputError(f"cannot write {path}: {error}")

"""A private folder beside an output, in which the new output grows before it takes its place.

`.<name>.<12 hex digits>/` holds `new/<name>`, and `old/<name>` while a system that cannot exchange two names replaces a
folder. Its maker holds a lock on it (flock) as long as it lives, so the next writer of the same output can tell what a
killed process left, from what another is still writing: it clears the one and leaves the other alone. Where the disk
knows no locks nothing is cleared.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HEX = 6  # random bytes in a stage's name
BUSY = (errno.EWOULDBLOCK, errno.EACCES)  # what flock says when another holds the lock
TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux


@contextmanager
def stage_for(target: Path, place: Path | None = None) -> Iterator[Path]:
    """Where to make what is to become `target`: `new/<name>` in a stage, which goes when the block ends, however.

    place: the folder that the stage lies in, if not target's own. Raises OSError as the disk does.
    """
    place = place or target.parent
    clear(target, place)
    stage, lock = place / f"{_prefix(target)}{secrets.token_hex(HEX)}", -1
    try:
        try:
            for last in (False, False, True):
                try:
                    stage.mkdir()
                    lock = _locked(stage)
                    (stage / "new").mkdir()
                    break
                except FileNotFoundError:  # between mkdir and lock it looked left over, and another writer cleared it
                    if lock >= 0:
                        os.close(lock)
                    if last:
                        raise
                    stage, lock = place / f"{_prefix(target)}{secrets.token_hex(HEX)}", -1
            yield stage / "new" / target.name
        finally:
            _remove(stage)
    finally:
        _remove(stage)  # once more, for an interrupt in the first
        if lock >= 0:
            os.close(lock)


def clear(target: Path, place: Path) -> None:
    """Remove the stages of `target` that no living process holds, after giving back an old output that lies in one."""
    name = re.compile(re.escape(_prefix(target)) + f"[0-9a-f]{{{2 * HEX}}}")
    with suppress(OSError):
        for stage in [Path(entry.path) for entry in os.scandir(place) if name.fullmatch(entry.name)]:
            with suppress(OSError):
                if not _is_stage(stage, target.name):
                    continue
                lock = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused: it is being written
                    old = stage / "old" / target.name
                    if old.exists() and not target.exists():
                        os.rename(old, target)
                    _remove(stage)
                finally:
                    os.close(lock)


def publish(new: Path, target: Path) -> None:
    """Give a stage's `new` the name `target`, on the disk and in the umask's mode, in one step where the system can.

    A file replaces a file and a folder a folder; the old folder goes with the stage. Raises OSError.
    """
    _take_umask(new)
    for folder, _, files in os.walk(new):
        for file in files:
            sync(Path(folder, file))
        sync(Path(folder))
    if new.is_dir():
        _swap(new, target)
    else:
        sync(new)
        os.replace(new, target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prefix(target: Path) -> str:
    return f".{target.name[:40]}."  # a stage's name must fit where the output's does


def _locked(stage: Path) -> int:
    """A descriptor of the new stage that holds its lock. FileNotFoundError: another took it for left over."""
    lock = os.open(stage, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in BUSY:
            os.close(lock)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(stage)) from error
    except BaseException:
        os.close(lock)
        raise
    return lock


def _remove(stage: Path) -> None:
    """Not shutil's rmtree, which an interrupt in the wrong moment makes fail with another error."""
    for folder, folders, files in os.walk(stage, topdown=False):
        for name in files:
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))
        for name in folders:
            path = os.path.join(folder, name)
            with suppress(OSError):
                os.unlink(path) if os.path.islink(path) else os.rmdir(path)
    with suppress(OSError):
        stage.rmdir()


def _is_stage(path: Path, name: str) -> bool:
    """Whether `path` is a stage of an output called `name`, and nobody's own folder that looks like one."""
    if not stat.S_ISDIR(path.lstat().st_mode) or not set(os.listdir(path)) <= {"new", "old"}:
        return False
    return all(set(os.listdir(path / part)) <= {name} for part in os.listdir(path) if part == "old")


def _take_umask(new: Path) -> None:
    """Readable and writable for whom the umask allows it: several libraries write files that their owner alone reads.

    The stage's own mode shows what that is here; asking for the umask would change it for every thread.
    """
    allowed = stat.S_IMODE(new.parent.stat().st_mode) & 0o777
    for path in (new, *new.rglob("*")) if new.is_dir() and not new.is_symlink() else (new,):
        kind = path.lstat().st_mode
        wanted = allowed if stat.S_ISDIR(kind) else allowed & 0o666
        if (stat.S_ISDIR(kind) or stat.S_ISREG(kind)) and kind & 0o777 != wanted:
            path.chmod(wanted | kind & 0o7000)


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        try:
            os.rename(new, target)
            return
        except OSError as error:  # another process was quicker
            if error.errno not in TAKEN:
                raise
    if _exchanged(new, target):
        return
    # Two renames. Killed between them, the next writer of this output gives the old one back (`clear`).
    old = new.parent.parent / "old" / target.name
    old.parent.mkdir()
    os.rename(target, old)
    try:
        os.rename(new, target)
    except BaseException:
        if not target.exists():
            os.rename(old, target)
        raise


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step, which Linux can on most of its file systems. False where that cannot be."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))

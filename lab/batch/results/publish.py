"""From the stage to the results: a file appears whole, and on the disk, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lab.batch.ledger.rows import Files, Row
from shared.artifacts.files import sha256
from shared.artifacts.staging import sync
from shared.errors import InputError, KinoformError


def staged(stage: Path, output: str) -> dict[str, tuple[str, int, int]]:
    """What lies in a task's stage, as the ledger keeps files: the result last, all that belongs to it first.

    output: of the task, below the results. Raises KinoformError where the result is not there.
    """
    folder = Path(output).parent
    found = {}
    for file in sorted(stage.rglob("*"), key=lambda file: (file.name == Path(output).name, file)):
        if file.is_file():
            found[(folder / file.relative_to(stage)).as_posix()] = facts(file)
    if output not in found:
        raise KinoformError(f"result {output}", expected="a file", got="none was written")
    return found


def facts(file: Path) -> tuple[str, int, int]:
    """sha256, size and time of change of a file."""
    stat = file.stat()
    return sha256(file), stat.st_size, stat.st_mtime_ns


def publish(stage: Path, results: Path, row: Row, files: Files) -> None:
    """Give staged files their names among the results, on the disk. Those that have them already are passed over, so
    that a publication which was cut short goes on.

    Raises InputError where a link would lead out of the results.
    """
    for name in files:
        target = results / name
        source = stage / Path(name).relative_to(Path(row.output).parent)
        if not source.is_file():
            continue
        check_inside(results, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        sync(source)
        os.replace(source, target)
        for folder in (target.parent, *(above for above in target.parent.parents if above.is_relative_to(results))):
            sync(folder)


def check_inside(results: Path, target: Path) -> None:
    """Raises InputError where a result would not lie among the results, or would replace a link."""
    inside = next(folder for folder in target.parents if folder.exists()).resolve()
    if target.is_symlink() or not inside.is_relative_to(results.resolve()):
        raise InputError(f"output {target}", expected="a place among the results", got="a link that leads elsewhere")


def is_there(results: Path, files: Files) -> bool:
    """Whether files are as they were published; bytes are compared where size or time are not what they were."""
    for name, (sha, size, changed) in files.items():
        try:
            stat = (results / name).stat()
            if (stat.st_size, stat.st_mtime_ns) == (size, changed):
                continue
            if stat.st_size != size or sha256(results / name) != sha:
                return False
        except OSError:
            return False
    return bool(files)


def taken_over(results: Path, twin: Row, row: Row) -> dict[str, tuple[str, int, int]]:
    """A twin's file under a task's own name too, as a copy: they share no bytes, so that one may be edited."""
    target = results / row.output
    check_inside(results, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(results / twin.output, part)
    sync(part)
    os.replace(part, target)
    sync(target.parent)
    return {row.output: facts(target)}


def beside(output: str, other: str) -> str:
    """The name of another result, seen from the folder of this one."""
    here, there = Path(output).parent.parts, Path(other).parts
    same = 0
    while same < min(len(here), len(there) - 1) and here[same] == there[same]:
        same += 1
    return "/".join([*[".."] * (len(here) - same), *there[same:]])

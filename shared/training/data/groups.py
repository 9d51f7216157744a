"""A data folder as trainings see it: groups of pictures or of clips, with captions; what cannot be used is left out.

Caches lie in a hidden folder beside the data, or where that cannot be written to, in the user's cache. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from shared.errors import InputError
from shared.training.data.captions import Entry, Source, find_sources
from shared.training.data.inspection import Seen, inspect

MOST_LEFT_OUT = 0.1  # share of the entries; with more, it is the folder that needs mending
CACHE = ".kinoform"
NAMED = 5  # faults that a message names
Kind = Literal["picture", "clip", "view", "start"]


@dataclass(frozen=True)
class LeftOut:
    """file: its path from the data folder."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file} ({self.reason})"


@dataclass(frozen=True)
class Group:
    """All usable pictures, or clips, or clips whose frames are views, or clips that start from a given frame, of one
    folder with captions. seen: one for each entry."""

    folder: Path
    kind: Kind
    entries: tuple[Entry, ...]
    seen: tuple[Seen, ...]
    cache: Path

    @cached_property
    def fingerprint(self) -> str:
        """Of names, sizes and times of change: what is cached under another one is of other files."""
        files = [
            (entry["file"], seen.bytes, seen.modified) for entry, seen in zip(self.entries, self.seen, strict=True)
        ]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class DataFolder:
    """layouts: where captions come from. uncaptioned: files that no caption names, from the data folder."""

    path: Path
    layouts: tuple[str, ...]
    groups: tuple[Group, ...]
    left_out: tuple[LeftOut, ...]
    uncaptioned: tuple[str, ...]

    @property
    def entries(self) -> int:
        """How many there are, those left out included."""
        return len(self.left_out) + sum(len(group.entries) for group in self.groups)

    def refusal(self) -> InputError | None:
        """Why nothing should be trained on it: more than `MOST_LEFT_OUT` cannot be used, or nothing is left."""
        if self.groups and len(self.left_out) <= MOST_LEFT_OUT * self.entries:
            return None
        return InputError(
            f"data folder {self.path}", expected=f"at most {MOST_LEFT_OUT:.0%} of its files unusable",
            got=f"{len(self.left_out)} of {self.entries}",
            hint=f"Mend or remove them: {some(self.left_out)}",
        )  # fmt: skip


@dataclass(frozen=True)
class ReadState:
    """A file has been looked at; `data` comes with the last one."""

    step: int
    total: int
    data: DataFolder | None = None


def some(left_out: Sequence[LeftOut]) -> str:
    """The first of them, and how many more there are."""
    more = len(left_out) - NAMED
    return ", ".join(map(str, left_out[:NAMED])) + (f" and {more} more" if more > 0 else "")


def reading(data: Path, cache_dir: Path | None = None, caption: str | None = None) -> Iterator[ReadState]:
    """Looks at every file of a data folder, one yield a file. See `read_data`."""
    sources = find_sources(data, caption)
    files = [list(dict.fromkeys(entry["file"] for entry in source.entries)) for source in sources]
    total, step = sum(map(len, files)), 0
    groups: list[Group] = []
    left_out: list[LeftOut] = []
    for source, names in zip(sources, files, strict=True):
        cache = cache_folder(source.folder, cache_dir)
        seen = {}
        for file, found in inspect(source.folder, names, cache):
            seen[file] = found
            step += 1
            if step < total:
                yield ReadState(step, total)
        groups += _groups(source, seen, cache)
        place = source.folder.relative_to(data)
        left_out += [
            LeftOut((place / entry["file"]).as_posix(), seen[entry["file"]].fault)
            for entry in source.entries
            if seen[entry["file"]].fault
        ]
    layouts = tuple((source.folder.relative_to(data) / source.layout).as_posix() for source in sources)
    uncaptioned = tuple(
        (source.folder.relative_to(data) / file).as_posix() for source in sources for file in source.uncaptioned
    )
    yield ReadState(step, total, DataFolder(data, layouts, tuple(groups), tuple(left_out), uncaptioned))


def read_data(data: Path, cache_dir: Path | None = None, caption: str | None = None) -> DataFolder:
    """What is in a data folder and the folders below it; files that cannot be used are in `left_out`.

    Every file is read to its end, once: `cache_dir` (a hidden folder beside the captions where None) keeps what was
    seen. caption: of files that have none. Raises InputError for captions that cannot be read, or none;
    `DataFolder.refusal` says whether to train.
    """
    *_, last = reading(data, cache_dir, caption)
    assert last.data is not None
    return last.data


def find_folders(data: Path, cache_dir: Path | None = None, caption: str | None = None) -> list[Group]:
    """The groups to train on, for `load_media`. Raises InputError as `read_data` does, and where too much is bad."""
    found = read_data(data, cache_dir, caption)
    refusal = found.refusal()
    if refusal is not None:
        raise refusal
    return list(found.groups)


def cache_folder(folder: Path, cache_dir: Path | None = None) -> Path:
    """Where the caches of a folder with captions lie; it is made."""
    own = f"{folder.resolve().name}-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]}"
    if cache_dir is not None:
        cache_dir = cache_dir / own
        cache_dir.mkdir(parents=True, exist_ok=True)
        return cache_dir
    beside = folder / CACHE
    try:
        beside.mkdir(exist_ok=True)
        probe = beside / f".{os.getpid()}"
        probe.touch()
        probe.unlink()
        return beside
    except OSError:  # a disk or folder that is only read: tried, not asked, as root may lack the right too
        users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kinoform" / "data" / own
        users.mkdir(parents=True, exist_ok=True)
        return users


def _groups(source: Source, seen: dict[str, Seen], cache: Path) -> list[Group]:
    kinds: dict[Kind, list[Entry]] = {"picture": [], "clip": [], "view": [], "start": []}
    for entry in source.entries:
        found = seen[entry["file"]]
        if not found.fault:
            kinds[_kind(entry, found, source.folder)].append(entry)
    return [
        Group(source.folder, kind, tuple(entries), tuple(seen[entry["file"]] for entry in entries), cache)
        for kind, entries in kinds.items()
        if entries
    ]


def _kind(entry: Entry, seen: Seen, folder: Path) -> Kind:
    """Raises InputError for cameras that are not one a frame."""
    if seen.kind != "clip" or seen.frames < 2:
        return "picture"
    if "cameras" not in entry:
        return "start" if "start" in entry else "clip"
    if len(entry["cameras"]) != seen.frames:
        raise InputError(
            f"cameras of {folder / entry['file']}", expected=f"one for each of {seen.frames} frames",
            got=len(entry["cameras"]),
        )  # fmt: skip
    return "view"

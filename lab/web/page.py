"""The page in a folder of results: index.html, and in .page/ what it shows.

.page/items-000.js and on   items, CHUNK a file, in the order given
.page/state.js              title, counts, how far running items are, and the revision of each of those files: an open
                            page reads it every other second, and then the files that have changed
.page/thumbnails/KEY.webp   a small picture of an item; KEY is the beginning of its id's sha256
.page/assets/KEY.js         a GLB, for the page to turn

A page from disk may fetch nothing, so data are scripts (`lab.web.scripts`). Each file appears whole, and what names
another is written after it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from lab.web.bundle import check_ours, index_html
from lab.web.items import STATES, Item
from lab.web.scripts import call, called_with, json_text
from shared.artifacts.files import write_bytes

INDEX, DATA = "index.html", ".page"
CHUNK = 250  # items of one file
THUMBNAILS, ASSETS, STATE = "thumbnails", "assets", "state.js"


@dataclass
class Entry:
    """An item, its JSON, and whether its file has been seen."""

    item: Item
    text: str
    seen: bool


class Page:
    """The page of a folder. `update` brings it up to date; a page that is open in a browser follows."""

    def __init__(self, folder: Path, title: str) -> None:
        """Writes nothing yet. Raises InputError where an index.html lies that is not ours."""
        self.folder = Path(folder)
        self.title = title
        self.data = self.folder / DATA
        check_ours(self.index)
        self._entries: dict[str, Entry] = {}
        self._chunks: list[list[str]] = []
        self._revisions: list[str] = []
        self._state = b""
        self._earlier: dict[str, dict[str, Any]] | None = None

    @property
    def index(self) -> Path:
        """The file to open."""
        return self.folder / INDEX

    def update(self, items: Iterable[Item]) -> None:
        """Show these items, all that there are, in this order. What is as it was costs next to nothing.

        Files are looked at when their items are first seen with them, and again when those change. Raises InputError
        or OutputError where the folder cannot be written to.
        """
        items = list(items)
        first = self._earlier is None
        if self._earlier is None:
            self._earlier = _looks_of(self.data)
        entries = [self._entry(item) for item in items]
        self._entries = {entry.item.id: entry for entry in entries}
        texts = [entry.text for entry in entries]
        chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
        for number, chunk in enumerate(chunks):
            if number >= len(self._chunks) or self._chunks[number] != chunk:
                self._write_chunk(number, chunk)
        del self._revisions[len(chunks) :]
        self._chunks = chunks
        self._write_state(items)
        if first:
            self._write_index()
            self._tidy()
            self._earlier = {}

    def _entry(self, item: Item) -> Entry:
        known = self._entries.get(item.id)
        if known is not None and known.seen and _same(known.item, item):
            known.item = item
            return known
        values = {name: value for name, value in vars(item).items() if value not in (None, "", (), {})}
        values.pop("done_share", None)
        values["key"] = key_of(item.id)
        if "seed" in values:
            values["seed"] = str(item.seed)  # as it was given: beyond JavaScript's whole numbers too
        found = self._looked_at(item) if item.output else {}
        return Entry(item, json_text({**values, **found}), seen=not item.output or "stamp" in found or "note" in found)

    def _looked_at(self, item: Item) -> dict[str, Any]:
        """What the page needs to know of an item's file; nothing while it is not there."""
        assert item.output is not None
        path = PurePosixPath(item.output)
        if path.is_absolute() or ".." in path.parts:
            return {"output": None, "note": "The file lies outside of this page's folder."}
        file = self.folder / path
        try:
            stat = file.stat()
        except (OSError, ValueError):
            return {"output": None}
        stamp, key = f"{stat.st_size:x}-{stat.st_mtime_ns:x}", key_of(item.id)
        about: dict[str, Any] = {"stamp": stamp, "href": quote(str(path).encode("utf-8", "surrogateescape"))}
        about |= {"when": stat.st_mtime_ns // 1_000_000, "bytes": stat.st_size}
        look = (self._earlier or {}).get(key, {})
        if look.get("stamp") == stamp and self._has_files(key, look):
            return {**about, "look": look["look"]}
        return {**about, "look": self._look(file, key)}

    def _look(self, file: Path, key: str) -> dict[str, Any]:
        """Look at a file, and write what the page shows of it."""
        from lab.web.thumbnails import look  # here: it brings in what reads results

        facts, picture = look(file)
        if picture is not None:
            _put(self.data / THUMBNAILS / f"{key}.webp", picture)
        if facts.get("viewer"):
            text = json.dumps({"key": key, "glb": base64.b64encode(file.read_bytes()).decode("ascii")})
            _put(self.data / ASSETS / f"{key}.js", call("asset", text))
        return {**facts, "thumbnail": picture is not None}

    def _has_files(self, key: str, look: dict[str, Any]) -> bool:
        seen = look.get("look")
        if not isinstance(seen, dict):
            return False
        needed = [self.data / THUMBNAILS / f"{key}.webp"] if seen.get("thumbnail") else []
        needed += [self.data / ASSETS / f"{key}.js"] if seen.get("viewer") else []
        return all(file.is_file() and file.stat().st_size for file in needed)

    def _write_chunk(self, number: int, chunk: Sequence[str]) -> None:
        items = f"[{','.join(chunk)}]"
        revision = hashlib.sha256(items.encode()).hexdigest()[:16]
        if number < len(self._revisions) and self._revisions[number] == revision:
            return
        script = call("items", f'{{"chunk":{number},"revision":"{revision}","items":{items}}}')
        _write_changed(self.data / chunk_name(number), script)
        self._revisions[number : number + 1] = [revision]

    def _write_state(self, items: Sequence[Item]) -> None:
        counts = dict.fromkeys(STATES, 0)
        for item in items:
            counts[item.state] = counts.get(item.state, 0) + 1
        state = {
            "title": self.title,
            "total": len(items),
            "counts": {state: count for state, count in counts.items() if count},
            "running": {key_of(item.id): item.done_share for item in items if item.state == "running"},
            "chunks": self._revisions,
        }
        script = call("state", json_text(state))
        if script != self._state:
            _write_changed(self.data / STATE, script)
            self._state = script

    def _write_index(self) -> None:
        _write_changed(self.index, index_html(self.title))

    def _tidy(self) -> None:
        """Take away what only an earlier page had."""
        kept = {chunk_name(number) for number in range(len(self._chunks))}
        keys = {key_of(name) for name in self._entries}
        for file in self.data.glob("items-[0-9]*.js"):
            if file.name not in kept:
                file.unlink(missing_ok=True)
        for folder in (THUMBNAILS, ASSETS):
            for file in (self.data / folder).glob("[!.]*"):
                if file.stem not in keys:
                    file.unlink(missing_ok=True)


def key_of(name: str) -> str:
    """What files about the item of that id are called: any id makes a name that any disk takes."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def chunk_name(number: int) -> str:
    """The file of the chunk of that number."""
    return f"items-{number:03d}.js"


def _same(one: Item, other: Item) -> bool:
    """Whether two items differ in nothing but how far they are, which is no part of their chunk."""
    if one is other or one == other:
        return True
    return one.state == "running" and replace(one, done_share=None) == replace(other, done_share=None)


def _write_changed(file: Path, data: bytes) -> None:
    with suppress(OSError):
        if file.read_bytes() == data:
            return
    write_bytes(file, data)


def _put(file: Path, data: bytes) -> None:
    """Write what can be made again from a result: whole, and not waiting for the disk, which is most of the time that
    a page of thousands takes.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_bytes(data)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def _looks_of(data: Path) -> dict[str, dict[str, Any]]:
    """What an earlier page knew of its files, by key; of a file that cannot be read nothing."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(data.glob("items-*.js")):
        with suppress(OSError, ValueError, TypeError, KeyError):
            found |= {item["key"]: item for item in called_with(file.read_bytes())["items"] if "stamp" in item}
    return found

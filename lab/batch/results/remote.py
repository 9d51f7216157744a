"""Results at a URL as well: copied there once they are published here, before they count as done.

fsspec knows the places: object stores, other machines, folders. The ledger, the page and the results that the next
steps take stay in a folder of this machine, which belongs to the one URL. Buckets are their owners' to make: a place
whose paths have no root, as those of object stores, gets no folders.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.batch.place import Place
from lab.batch.results.delivery import Undelivered
from shared.artifacts.files import atomic_path, check_writable, write_bytes
from shared.errors import InputError, KinoformError, OutputError, one_line

MARK = "remote"  # in a batch's own folder: the hash of the URL that its results go to
LOCAL = "file"  # fsspec's name of this machine's own disks
PROBE = ".kinoform"  # a file that is written to a place, to see whether it can be
BLOCK = 1 << 20
# What is wrong with a place that answers. All else may be an outage, of which every file system has its own errors.
FOR_GOOD = (KinoformError, PermissionError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True)
class Remote:
    """url: as it was given. system: fsspec's. root: the path in it. shown: the URL without passwords. there: sizes of
    the results that `check` has found there, by name.
    """

    url: str
    system: Any
    root: str
    shown: str
    there: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, url: str) -> Remote:
        """Nothing is asked of the place yet. Raises InputError for one that is not known, and for a missing package."""
        if importlib.util.find_spec("fsspec") is None:
            hint = "pip install 'kinoform[fsspec]'"
            raise InputError(f"--out {one_line(url)}", expected="the package fsspec", got="none installed", hint=hint)
        import fsspec

        try:
            system, root = fsspec.url_to_fs(url)
        except Exception as error:  # a protocol that is not known, or whose own package is missing
            raise InputError("--out", expected="a URL that fsspec knows", got=url, hint=one_line(str(error))) from error
        root = root.rstrip("/")
        return cls(url, system, root, system.unstrip_protocol(root))

    def check(self) -> None:
        """List the results that are there, and try to write. Raises InputError where either fails."""
        try:
            results = f"{self.root}/results/"
            found = self.system.find(results, detail=True)
            self.there.update({name.removeprefix(results): about["size"] for name, about in found.items()})
            if LOCAL in self.system.protocol:
                check_writable(f"{self.root}/{PROBE}", ("",))
                return
            probe = f"{self.root}/{PROBE}"
            self._folder_of(probe)
            self.system.pipe_file(probe, b"")
            with suppress(PermissionError):  # it stays where nothing may be deleted
                self.system.rm_file(probe)
        except Exception as error:
            wanted = "a place that can be listed and written to"
            raise InputError(f"--out {self.shown}", expected=wanted, got=_said(error)) from error

    def deliver(self, results: Path, names: Iterable[str]) -> Undelivered | None:
        """Copy published files, each whole or not at all; what went wrong, or None. names: below `results`.

        A file of equal bytes that `check` has found is left as it is.
        """
        for name in names:
            target = f"{self.root}/results/{name}"
            try:
                if self._holds(results / name, name):
                    continue
                if LOCAL in self.system.protocol:
                    with atomic_path(target) as part:  # as object stores do by themselves
                        shutil.copyfile(results / name, part)
                else:
                    self._folder_of(target)
                    self.system.put_file(str(results / name), target)
            except Exception as error:
                why = one_line(f"made, but not copied to {self.shown}/results/{name}: {_said(error)}", limit=600)
                return Undelivered(why, isinstance(error, FOR_GOOD))
        return None

    def fetch(self, results: Path, name: str) -> None:
        """Copy a result that `check` has found there, and that is not here, to its place below `results`.

        Raises InputError where it is no result of Kinoform's, OutputError where it cannot be read.
        """
        from lab.batch.results.taken import is_of_batch  # inside, so that `batch status` answers at once

        if name not in self.there or (results / name).exists():
            return
        shown = f"{self.shown}/results/{name}"
        with atomic_path(results / name) as part:
            try:
                self.system.get_file(f"{self.root}/results/{name}", str(part))
            except Exception as error:
                hint = "The same command goes on, once it can be"
                raise OutputError(shown, expected="a file that can be read", got=_said(error), hint=hint) from error
            if not is_of_batch(part):
                hint = "Move it away, or name the task otherwise"
                raise InputError(
                    f"output {shown}", expected="no other file there", got="one of somebody else", hint=hint
                )

    def _holds(self, file: Path, name: str) -> bool:
        if self.there.get(name) != file.stat().st_size:
            return False
        with file.open("rb") as here, self.system.open(f"{self.root}/results/{name}", "rb") as there:
            while block := here.read(BLOCK):
                if there.read(len(block)) != block:
                    return False
        return True

    def _folder_of(self, target: str) -> None:
        if self.root.startswith("/"):
            self.system.makedirs(target.rpartition("/")[0], exist_ok=True)


def _said(error: Exception) -> str:
    return one_line(str(error) if isinstance(error, KinoformError) else f"{type(error).__name__}: {error}")


def is_url(text: str) -> bool:
    return "://" in text


def local_folder(url: str) -> Path:
    """Where the ledger of a batch is whose results go to a URL, unless the user says otherwise."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "kinoform" / "batches" / _hash(url)[:16]


def claim(place: Place, remote: Remote | None) -> None:
    """Keep a batch's folder for one URL, or for none: what is done is there then.

    Raises InputError for a folder whose results go elsewhere.
    """
    mark = place.stage.parent / MARK
    wanted = "" if remote is None else _hash(remote.url)
    if not mark.is_file() and not place.ledger.is_file() and remote is not None:
        write_bytes(mark, wanted.encode())
    found = mark.read_text() if mark.is_file() else ""
    if found != wanted:
        raise InputError(
            f"batch {place.folder}", expected="results that go where they went before", got="another --out",
            hint="Give the URL of before, or another --ledger" if found else "Give another --ledger",
        )  # fmt: skip


def _hash(url: str) -> str:
    return hashlib.sha256(url.rstrip("/").encode()).hexdigest()

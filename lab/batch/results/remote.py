"""Results at a URL as well: copied there once they are published here, before they count as done.

fsspec knows the places: object stores, other machines, folders. The ledger, the page and the results that the next
steps take stay in a folder of this machine, which belongs to the one URL.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.batch.place import Place
from shared.artifacts.files import atomic_path, write_bytes
from shared.errors import InputError, KinoformError, one_line

MARK = "remote"  # in a batch's own folder: the hash of the URL that its results go to
LOCAL = "file"  # fsspec's name of this machine's own disks


@dataclass(frozen=True)
class Remote:
    """url: as it was given. system: fsspec's. root: the path in it. shown: the URL without passwords."""

    url: str
    system: Any
    root: str
    shown: str

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

    def deliver(self, results: Path, names: Iterable[str]) -> str | None:
        """Copy published files; what went wrong, or None. names: below `results`."""
        for name in names:
            target = f"{self.root}/results/{name}"
            try:
                if LOCAL in self.system.protocol:
                    with atomic_path(target) as part:  # whole or not at all, as object stores do by themselves
                        shutil.copyfile(results / name, part)
                else:
                    self.system.makedirs(target.rpartition("/")[0], exist_ok=True)
                    self.system.put_file(str(results / name), target)
            except Exception as error:
                reason = str(error) if isinstance(error, KinoformError) else f"{type(error).__name__}: {error}"
                return one_line(f"made, but not copied to {self.shown}/results/{name}: {reason}", limit=600)
        return None


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

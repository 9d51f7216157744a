"""The folder of a batch, and who may write in it.

batch.sqlite     the ledger
results/         what was made
index.html       a page that shows it, with .page/
.batch/          stage/ of what is being made, requests/ to the head, logs/ of the workers, head.lock
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shared.errors import InputError, KinoformError


@dataclass(frozen=True)
class Place:
    """folder: absolute."""

    folder: Path

    @property
    def ledger(self) -> Path:
        return self.folder / "batch.sqlite"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def stage(self) -> Path:
        return self.folder / ".batch" / "stage"

    @property
    def requests(self) -> Path:
        return self.folder / ".batch" / "requests"

    @property
    def logs(self) -> Path:
        return self.folder / ".batch" / "logs"

    @property
    def lock(self) -> Path:
        return self.folder / ".batch" / "head.lock"

    def prepare(self) -> None:
        """Make the folder. Raises InputError where that cannot be."""
        try:
            for folder in (self.results, self.stage, self.requests, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            got = f"{self.folder}: {error.strerror}"
            raise InputError("--out", expected="a folder that may be written to", got=got) from error

    @contextmanager
    def headed(self) -> Iterator[None]:
        """Be the one head of the batch inside. Raises KinoformError, which says who is, where another is."""
        self.prepare()
        descriptor = self._open_lock()
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise KinoformError(
                    f"batch {self.folder}", expected="no other head", got=self.holder(),
                    hint="Ask it: kinoform batch status, pause, cancel",
                ) from error  # fmt: skip
            who = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(who).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def is_headed(self) -> bool:
        """Whether a living process is the head."""
        if not self.lock.is_file():
            return False
        descriptor = os.open(self.lock, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def holder(self) -> str:
        """Who is or was the head last."""
        try:
            who = json.loads(self.lock.read_text())
            return f"process {who['pid']} on {who['host']}, since {who['since']}"
        except (OSError, ValueError, KeyError):
            return "one that has just begun"

    def _open_lock(self) -> int:
        try:
            return os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            got = f"{self.lock}: {error.strerror}"
            raise InputError("--out", expected="a folder that may be written to", got=got) from error

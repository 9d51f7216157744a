"""What the benchmarks of batches share: the command, results by their bytes, and what is seen of a batch that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.batch.ledger.reader import Reader
from lab.batch.ledger.states import State
from shared.artifacts.files import sha256
from shared.errors import KinoformError

ROOT = Path(__file__).resolve().parents[1]


def kinoform(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lab.main", *arguments], cwd=cwd, capture_output=True, text=True,
                          env=environment())  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}


def hashes(out: Path) -> dict[str, str]:
    """sha256 of each result, by name."""
    return {file.name: sha256(file) for file in (out / "results").iterdir() if not file.name.startswith(".")}


def workers_of(pid: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(children).split():
            if b"lab.batch.executors.worker" in _read(Path(f"/proc/{child.decode()}/cmdline")):
                found.append(int(child))
    return found


def _read(file: Path) -> bytes:
    """Nothing of a process that has ended meanwhile."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


@dataclass
class Seen:
    """What was seen of a batch while it ran: leases of each task, those under which its file got ready, its workers."""

    out: Path
    leases: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    made: set[tuple[int, int]] = field(default_factory=set)
    workers: set[int] = field(default_factory=set)

    def look(self) -> None:
        with suppress(FileNotFoundError):  # what is looked at may go meanwhile
            for file in (self.out / ".batch/stage").glob("*/*/*"):
                if not file.name.startswith("."):  # of a file that is being written
                    self.made.add((int(file.parts[-2]), int(file.parts[-3])))
        with suppress(KinoformError), closing(Reader.open(self.out / "batch.sqlite")) as ledger:  # none yet
            for row in ledger.each(State.RUNNING):
                self.leases[row.number].add(row.token or 0)

    def again(self) -> int:
        """How many tasks were begun again."""
        return sum(len(tokens) - 1 for tokens in self.leases.values())

    def redone(self) -> int:
        """Of how many tasks a file was ready that was made again."""
        return sum(token < max(self.leases[number], default=0) for number, token in self.made)

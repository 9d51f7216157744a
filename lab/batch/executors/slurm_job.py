"""What runs on a node of a Slurm cluster: one local worker, kept warm until its head is gone.

No connection is open between the two: they share a folder, and append lines of JSON to files in it. `orders` is what
goes into a worker, `reports` what comes out, and is there once the job has begun; `beat` changes as long as the head
lives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.batch.executors.executor import Assignment
from lab.batch.executors.local import LocalExecutor

LOOK_SECONDS = 0.1
SILENT_SECONDS = 120.0


@dataclass
class Box:
    """A file that one process appends to and another reads, a line at a time."""

    path: Path
    read: int = 0

    def put(self, lines: Iterable[Mapping[str, Any]]) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def take(self) -> list[dict[str, Any]]:
        """What is new; of a line that is being written nothing."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.read)
            whole = file.read().rpartition(b"\n")[0]
        self.read += len(whole) + bool(whole)
        return [json.loads(line) for line in whole.splitlines()]


def serve(folder: str, settings: Mapping[str, Any], silent: float = SILENT_SECONDS) -> None:
    """The job. settings: of a LocalExecutor, whose logs go into the folder, too. silent: seconds without a beat after
    which the head is taken for dead.
    """
    orders, reports, beat = Box(Path(folder, "orders")), Box(Path(folder, "reports")), Path(folder, "beat")
    if reports.path.exists():  # Slurm has begun this job again: its orders are others' now
        return
    reports.put([])
    local = LocalExecutor(Path(folder), **settings)
    last, heard, is_headed = beat.read_text(), time.monotonic(), False  # it may have died while this job was queued
    try:
        while time.monotonic() - heard < silent:
            if (now := beat.read_text()) != last:
                last, heard, is_headed = now, time.monotonic(), True
            for order in orders.take() if is_headed else ():
                if "end" in order:
                    return
                if "cancel" in order:
                    local.cancel(order["cancel"])
                else:
                    local.give(local.workers[0].name, Assignment.from_json(order))
            if told := local.poll(LOOK_SECONDS):
                reports.put(map(asdict, told))
    finally:
        local.close()

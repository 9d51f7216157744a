"""A worker at the other end of a Ray cluster: the local executor's one worker process, inside an actor of Ray's.

The actor only hands on: it is never busy, so that an order to end is heard while the work goes on, and whatever happens
to the work's process, it is there to say so. If it is gone itself, its node was taken away, or it was.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.batch.executors.executor import Assignment
from lab.batch.executors.local import LocalExecutor
from shared.version import VERSION

LOOK_SECONDS = 0.02


class Far:
    """settings: of a LocalExecutor. It imports no Ray, which makes an actor of it.

    What goes in and out is plain data: the actor's Python may be another.
    """

    def __init__(self, logs: str, settings: Mapping[str, Any]) -> None:
        self._logs, self._settings = logs, settings
        self._local: LocalExecutor | None = None

    async def greet(self, shared: str) -> dict[str, Any]:
        """Who this is, and what it sees of a file that all machines are to share."""
        try:
            seen = Path(shared).read_text()
        except OSError as error:
            seen = str(error)
        return {"host": platform.node(), "version": VERSION, "seen": seen}

    async def give(self, assignment: Mapping[str, Any], seconds: float) -> list[dict[str, Any]]:
        """Begin an assignment, and tell what happens at first, as `poll`."""
        if self._local is None:
            self._local = LocalExecutor(Path(self._logs), **self._settings)
        self._local.give(self._local.workers[0].name, Assignment.from_json(assignment))
        return await self.poll(seconds)

    async def cancel(self, token: int) -> None:
        if self._local is not None:
            self._local.cancel(token)

    async def poll(self, seconds: float) -> list[dict[str, Any]]:
        """What has happened; waits up to so long for something to."""
        until = time.monotonic() + seconds
        while self._local is not None and time.monotonic() < until:
            reports = self._local.poll(0.0)
            if reports:
                return [asdict(report) for report in reports]
            await asyncio.sleep(LOOK_SECONDS)
        return []

    async def close(self) -> None:
        if self._local is not None:
            self._local.close()
            self._local = None

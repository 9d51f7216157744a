"""Workers on the nodes of a Ray cluster: an actor each, started where there is room, replaced when its node is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.batch.executors.executor import Assignment, Report
from lab.batch.executors.local import STARTS
from lab.batch.executors.ray_cluster import Cluster, Needs
from lab.batch.executors.ray_far import Far
from shared.errors import KinoformError, one_line
from shared.version import VERSION

TELL_SECONDS = 1.0  # that an actor gathers news for at most
CLOSE_SECONDS = 5.0
ROOM_SECONDS = 1.0  # between two looks at what room there is


@dataclass
class Seat:
    """Where a worker is or will be. asked: what its actor was asked and has not answered yet. token: of its assignment.
    failed_starts: of actors, one after the other, that died before they said a word.
    """

    name: str
    actor: Any = None
    asked: Any = None
    greeted: bool = False
    token: int | None = None
    failed_starts: int = 0


@dataclass
class RayExecutor:
    """needs: what each worker takes of its node. count: workers; as many as the nodes have room for where None. most:
    there are never more. device: as Context has it. memory: bytes of each at most, 0 for no limit. logs: folder for
    what they print. shared: a file that every node must see as it is here.
    """

    cluster: Cluster
    needs: Needs
    logs: Path
    shared: Path
    count: int | None = None
    most: int | None = None
    device: str = "cpu"
    memory: int = 0
    seats: list[Seat] = field(init=False, default_factory=list)
    _looked: float = field(init=False, default=-ROOM_SECONDS)

    def free(self) -> list[str]:
        now = time.monotonic()
        if now - self._looked >= ROOM_SECONDS:
            self._looked = now
            self._take_seats()
        return [seat.name for seat in self.seats if seat.greeted and seat.token is None]

    def give(self, worker: str, assignment: Assignment) -> None:
        seat = next(each for each in self.seats if each.name == worker)
        seat.token = assignment.token
        seat.asked = seat.actor.give.remote(assignment.to_json(), TELL_SECONDS)

    def cancel(self, token: int) -> None:
        for seat in self._at(token):
            seat.actor.cancel.remote(token)

    def drop(self, token: int) -> None:
        for seat in self._at(token):
            self.cluster.kill(seat.actor)

    def poll(self, seconds: float) -> list[Report]:
        asked = {seat.asked: seat for seat in self.seats if seat.asked is not None}
        if not asked:
            time.sleep(seconds)
            return []
        wait = self.cluster.ray.wait
        if not wait(list(asked), timeout=seconds)[0]:
            return []
        answered, _ = wait(list(asked), num_returns=len(asked), timeout=0)
        return [report for answer in answered for report in self._hear(asked[answer])]

    def close(self) -> None:
        ray = self.cluster.ray
        seats = [seat for seat in self.seats if seat.actor is not None]
        self.seats = []
        if not self.cluster.is_ours and self.cluster.lost_since is None:  # else all of it ends at once
            ended = [seat.actor.close.remote() for seat in seats if seat.greeted]
            if ended:
                ray.wait(ended, num_returns=len(ended), timeout=CLOSE_SECONDS)
            for seat in seats:
                self.cluster.kill(seat.actor)
        self.cluster.close()

    def _take_seats(self) -> None:
        """As many as there is room for, now that nodes may have come or gone."""
        nodes = self.cluster.nodes()
        room = self.count or sum(map(self.needs.fit, nodes))
        wanted = room if self.most is None else min(room, self.most)
        self.seats += [Seat(f"ray-{number + 1}") for number in range(len(self.seats), wanted)]
        for seat in self.seats[:wanted]:
            if seat.actor is None and self.cluster.lost_since is None:
                self._start(seat)

    def _start(self, seat: Seat) -> None:
        """Ray holds the actor back until a node has room for it."""
        settings = {"threads": self.needs.cpus, "device": self.device, "memory": self.memory}
        actor = self.cluster.ray.remote(Far).options(
            num_cpus=self.needs.cpus, num_gpus=self.needs.gpus, memory=self.needs.memory,
            max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD",
        )  # fmt: skip
        seat.actor = actor.remote(str(self.logs / seat.name), settings)
        seat.asked, seat.greeted = seat.actor.greet.remote(str(self.shared)), False

    def _at(self, token: int) -> Iterator[Seat]:
        return (seat for seat in self.seats if seat.token == token)

    def _hear(self, seat: Seat) -> list[Report]:
        errors = self.cluster.ray.exceptions
        answer, seat.asked = seat.asked, None
        try:
            told = self.cluster.ray.get(answer)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, KinoformError):
                raise cause from None
            raise KinoformError(f"{seat.name} failed", got=one_line(f"{type(cause).__name__}: {cause}")) from error
        except errors.RayError as error:
            return self._lost(seat, error)
        if not seat.greeted:
            self._check(seat, told)
            seat.greeted, seat.failed_starts = True, 0
            return []
        reports = [Report(**values) for values in told]
        if any(report.event in ("ended", "gone") for report in reports):
            seat.token = None
        else:
            seat.asked = seat.actor.poll.remote(TELL_SECONDS)
        return reports

    def _check(self, seat: Seat, told: dict[str, Any]) -> None:
        """Raises KinoformError for a node that is not as this one."""
        host = told["host"]
        if told["version"] != VERSION:
            raise KinoformError(f"kinoform on {host}", expected=f"version {VERSION}, as here", got=told["version"])
        if told["seen"] != self.shared.read_text():
            raise KinoformError(
                f"--out on {host}", expected=f"{self.shared} as it is here", got=told["seen"] or "an empty file",
                hint="The folder of the batch must be one that all nodes share, under the same path",
            )  # fmt: skip

    def _lost(self, seat: Seat, error: Exception) -> list[Report]:
        """An actor is no more: its node was taken away, or it was, which charges nobody. So it is if Ray ended it for
        want of memory on its node, which may be others' doing; a task that is too large itself fails by `memory`.

        Raises KinoformError where actors die as they start, again and again.
        """
        if isinstance(error, self.cluster.ray.exceptions.ActorUnavailableError):  # it may still be there
            self.cluster.kill(seat.actor)
        token, greeted = seat.token, seat.greeted
        seat.actor, seat.token, seat.greeted = None, None, False
        last = one_line(next((line for line in reversed(str(error).splitlines()) if line.strip()), ""), limit=300)
        if not greeted and not isinstance(error, self.cluster.ray.exceptions.OutOfMemoryError):
            seat.failed_starts += 1
            if seat.failed_starts >= STARTS:
                hint = "Do all nodes have Kinoform installed, and were they started with RAY_AUTH_MODE=token?"
                raise KinoformError(f"{seat.name} cannot start", got=last, hint=hint)
        if token is None:
            return []
        return [Report(token, "gone", error="its worker or node was taken away")]

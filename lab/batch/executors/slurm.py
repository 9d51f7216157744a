"""Workers as jobs of a Slurm cluster (`slurm_job`), submitted by submitit.

A job that ends, whoever ended it, was taken away, which charges nobody.
"""

from __future__ import annotations

import importlib
import importlib.util
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.batch.executors.executor import Assignment, Report
from lab.batch.executors.local import STARTS
from lab.batch.executors.slurm_job import LOOK_SECONDS, Box, serve
from shared.errors import InputError, KinoformError, one_line

ASK_SECONDS = 10.0  # between two questions to Slurm
CLOSE_SECONDS = 30.0


def check() -> None:
    """Raises InputError where submitit is not installed, or this machine cannot submit jobs."""
    if importlib.util.find_spec("submitit") is None:
        hint = "pip install 'kinoform[slurm]'"
        raise InputError("--executor slurm", expected="the package submitit", got="none", hint=hint)
    if shutil.which("srun") is None:
        hint = "Run it on a login node of the cluster"
        raise InputError("--executor slurm", expected="Slurm's commands on PATH", got="no srun", hint=hint)


def submitter(folder: Path, parameters: Mapping[str, Any], cluster: str = "slurm") -> Any:
    """submitit's executor. folder: of its logs. parameters: as its `update_parameters` has them. cluster: "local" runs
    jobs as processes of this machine.

    Raises InputError for a parameter that there is not.
    """
    submitit: Any = importlib.import_module("submitit")
    jobs = submitit.AutoExecutor(folder=folder, cluster=cluster)
    try:
        jobs.update_parameters(name="kinoform", nodes=1, tasks_per_node=1, **parameters)
    except (NameError, TypeError, ValueError) as error:
        got = one_line(str(error), limit=400)
        raise InputError("--slurm", expected="a parameter of submitit's", got=got) from error
    return jobs


@dataclass
class Seat:
    """Where a worker is or will be. job: submitit's. token: of its assignment. failed_starts: of jobs, one after the
    other, that ended before they began.
    """

    name: str
    job: Any = None
    orders: Box = field(default_factory=lambda: Box(Path()))
    reports: Box = field(default_factory=lambda: Box(Path()))
    token: int | None = None
    failed_starts: int = 0


@dataclass
class SlurmExecutor:
    """jobs: submitit's executor. folder: that all nodes see under this path. count: workers. settings: as `serve` has
    them.
    """

    jobs: Any
    folder: Path
    count: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    seats: list[Seat] = field(init=False)
    _asked: float = field(init=False, default=-ASK_SECONDS)

    def __post_init__(self) -> None:
        self.seats = [Seat(f"slurm-{number + 1}") for number in range(self.count)]

    def free(self) -> list[str]:
        return [seat.name for seat in self.seats if seat.token is None]

    def give(self, worker: str, assignment: Assignment) -> None:
        seat = next(each for each in self.seats if each.name == worker)
        if seat.job is None:
            folder = self.folder / f"{worker}-{secrets.token_hex(6)}"  # of this job alone
            folder.mkdir(parents=True)
            seat.orders, seat.reports = Box(folder / "orders"), Box(folder / "reports")
            self._beat(seat)
            seat.job = self.jobs.submit(serve, str(folder), dict(self.settings))
        seat.token = assignment.token
        seat.orders.put([assignment.to_json()])

    def cancel(self, token: int) -> None:
        for seat in self._at(token):
            seat.orders.put([{"cancel": token}])

    def drop(self, token: int) -> None:
        for seat in self._at(token):
            self._end(seat)

    def poll(self, seconds: float) -> list[Report]:
        until = time.monotonic() + seconds
        while not (reports := self._look()) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        return reports

    def close(self) -> None:
        seats = [seat for seat in self.seats if seat.job is not None]
        for seat in seats:
            self._end(seat)
        until = time.monotonic() + CLOSE_SECONDS
        while not all(_ended(seats)) and time.monotonic() < until:
            time.sleep(1.0)
        self.seats = []

    def _at(self, token: int) -> list[Seat]:
        return [seat for seat in self.seats if seat.token == token]

    def _end(self, seat: Seat) -> None:
        """Also a job that is still in Slurm's queue, or that runs where signals are ignored."""
        seat.orders.put([{"end": True}])
        seat.job.cancel(check=False)

    def _beat(self, seat: Seat) -> None:
        seat.orders.path.with_name("beat").write_text(str(time.monotonic()))

    def _look(self) -> list[Report]:
        """What jobs have reported; and now and then which have ended, and which wait for their turn."""
        seats = [seat for seat in self.seats if seat.job is not None]
        asks = time.monotonic() - self._asked >= ASK_SECONDS
        self._asked = time.monotonic() if asks else self._asked
        found: list[Report] = []
        for seat, has_ended in zip(seats, _ended(seats) if asks else [False] * len(seats), strict=True):
            reports = [Report(**values) for values in seat.reports.take()]
            if any(report.event in ("ended", "gone") for report in reports):
                seat.token = None
            found += reports
            if has_ended:
                found += self._gone(seat)
            elif asks:
                self._beat(seat)
                if seat.token is not None and not seat.reports.path.exists():
                    found.append(Report(seat.token, "alive"))  # it waits in Slurm's queue
        return found

    def _gone(self, seat: Seat) -> list[Report]:
        """A job has ended. Raises KinoformError where jobs end before they begin, again and again."""
        seat.failed_starts = 0 if seat.reports.path.exists() else seat.failed_starts + 1
        if seat.failed_starts >= STARTS:
            last = one_line((seat.job.stderr() or "no word").strip().splitlines()[-1])
            hint = f"See {seat.job.paths.stderr}. Do all nodes see this folder, and this Python?"
            raise KinoformError(f"{seat.name} cannot start", got=last, hint=hint)
        token, seat.job, seat.token = seat.token, None, None
        return [] if token is None else [Report(token, "gone", error="its job was taken away")]


def _ended(seats: Sequence[Seat]) -> list[bool]:
    """Which jobs have: one question to Slurm for all."""
    return [seat.job.done(force_check=place == 0) for place, seat in enumerate(seats)]

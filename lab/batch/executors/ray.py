"""Ray: actors on the machines of a cluster, or on this one.

An actor keeps its model, as a worker process does, and does the same (`perform`). Files go with the assignment and come
back with the report, so that the machines need share no folder; a model that is named by a path must lie there on each.
What is lost with a node is told as taken away, and its tasks are given to another actor.
"""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lab.batch.executors.executor import Assignment, Order, Report
from lab.batch.executors.perform import perform
from lab.batch.steps import steps
from lab.jobs.run import Context
from shared.errors import InputError, KinoformError

IDLE_SECONDS = 0.05
CORES = 1  # of an actor without a GPU


class Performer:
    """The actor. Its two methods run beside each other: `do` for one assignment at a time, `cancel` at any moment."""

    def __init__(self, device: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.context = Context(device)
        self.cancelled: set[int] = set()

    def do(
        self, values: Mapping[str, Any], files: Mapping[str, bytes]
    ) -> Iterator[tuple[dict[str, Any], dict[str, bytes]]]:
        """Reports as JSON values, each with the files of a task that is made, by their names below its folder.

        files: the inputs, by the paths that the assignment has for them.
        """
        assignment = Assignment.from_json(values)
        self.context.batch = len(assignment.orders)
        with tempfile.TemporaryDirectory() as folder:
            here = {path: Path(folder, "in", str(number), Path(path).name) for number, path in enumerate(files)}
            for path, place in here.items():
                place.parent.mkdir(parents=True)
                place.write_bytes(files[path])
            orders = tuple(_moved(order, here, Path(folder, "out")) for order in assignment.orders)
            places = {order.number: Path(order.output).parent for order in orders}
            moved = replace(assignment, orders=orders)
            for report in perform(moved, self.context, lambda: assignment.token in self.cancelled):
                made = _files_below(places[report.number]) if report.event == "made" and report.number else {}
                yield asdict(report), made

    def cancel(self, token: int) -> None:
        self.cancelled.add(token)


@dataclass
class Actor:
    """handle: of Ray. stream: the reports of `assignment`, as they come."""

    name: str
    handle: Any
    assignment: Assignment | None = None
    stream: Any = None


@dataclass
class RayExecutor:
    """address: of a running cluster; None begins one on this machine, for as long as the batch runs. count: actors; as
    many as the cluster has GPUs, or else cores, where None. device: as Context has it.

    Raises InputError where Ray is not installed, or nothing answers at the address.
    """

    address: str | None = None
    count: int | None = None
    device: str = "auto"
    _ray: Any = field(init=False)
    _actors: list[Actor] = field(init=False, default_factory=list)
    _numbers: Iterator[int] = field(init=False, default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        try:
            import ray
        except ImportError as error:
            raise InputError(
                "--executor ray", expected="Ray", got="none", hint="pip install 'kinoform[ray]'"
            ) from error
        self._ray = ray
        try:
            ray.init(address=self.address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(
                "--address", expected="a Ray cluster that answers", got=f"{self.address}: {error}"
            ) from error
        there = ray.cluster_resources()
        gpus = 0 if self.device == "cpu" else int(there.get("GPU", 0))
        self.resources = {"num_gpus": 1} if gpus else {"num_cpus": CORES}
        self.count = self.count or gpus or max(1, int(there.get("CPU", 1)))

    def free(self) -> list[str]:
        while len(self._actors) < (self.count or 1):
            self._actors.append(self._new_actor())
        return [actor.name for actor in self._actors if actor.assignment is None]

    def give(self, worker: str, assignment: Assignment) -> None:
        actor = next(each for each in self._actors if each.name == worker)
        named, files = _with_files(assignment)
        actor.assignment = assignment
        actor.stream = actor.handle.do.options(num_returns="streaming").remote(named.to_json(), files)

    def cancel(self, token: int) -> None:
        for actor in self._of(token):
            actor.handle.cancel.remote(token)

    def drop(self, token: int) -> None:
        for actor in self._of(token):
            self._ray.kill(actor.handle)

    def poll(self, seconds: float) -> list[Report]:
        until = time.monotonic() + seconds
        while True:
            streams = [actor.stream for actor in self._actors if actor.assignment is not None]
            if not streams:
                time.sleep(min(IDLE_SECONDS, seconds))
                return []
            ready, _ = self._ray.wait(streams, timeout=max(0.0, until - time.monotonic()), fetch_local=False)
            reports = [
                report for actor in self._actors if actor.stream in ready for report in self._next(actor)
            ]  # fmt: skip
            if reports or time.monotonic() >= until:
                return reports

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._actors.clear()
        self._ray.shutdown()

    def _new_actor(self) -> Actor:
        # Two threads: cancelling does not wait for the work. Restarts are the head's matter, which has the leases.
        remote = self._ray.remote(max_concurrency=2, max_restarts=0, **self.resources)(Performer)
        return Actor(f"actor-{next(self._numbers)}", remote.remote(self.device, CORES))

    def _of(self, token: int) -> list[Actor]:
        return [actor for actor in self._actors if actor.assignment is not None and actor.assignment.token == token]

    def _next(self, actor: Actor) -> list[Report]:
        """The next report of an actor, its files written where they belong."""
        errors = self._ray.exceptions
        assignment = actor.assignment
        if assignment is None:
            return []
        try:
            values, files = self._ray.get(next(actor.stream))
        except StopIteration:
            return self._gone(actor, "its actor ended", None)
        except errors.OutOfMemoryError as error:
            return self._gone(actor, f"out of memory: {error}", "work")
        except errors.RayTaskError as error:
            return self._gone(actor, f"its actor failed: {error}".splitlines()[0], "work")
        except errors.RayError as error:
            return self._gone(actor, f"its node or actor was lost: {type(error).__name__}", None)
        report = Report(**values)
        if report.event == "made":
            order = next(order for order in assignment.orders if order.number == report.number)
            for name, data in files.items():
                place = Path(order.output).parent / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
        if report.event == "ended":
            actor.assignment = None
        return [report]

    def _gone(self, actor: Actor, why: str, fault: Any) -> list[Report]:
        self._actors.remove(actor)
        if actor.assignment is None:
            raise KinoformError(f"{actor.name}", expected="an assignment", got="none")
        return [Report(actor.assignment.token, "gone", error=why, fault=fault)]


def _with_files(assignment: Assignment) -> tuple[Assignment, dict[str, bytes]]:
    """An assignment in which all that goes in stands in `Order.files`, and these files. Records name them as before."""
    keys = steps()[assignment.step].recipe.file_keys()
    files: dict[str, bytes] = {}
    orders = []
    for order in assignment.orders:
        own = {key: str(order.recipe[key]) for key in keys if order.recipe.get(key) is not None}
        orders.append(replace(order, files={**own, **order.files}, names={**own, **order.names}))
        for path in orders[-1].files.values():
            files[path] = Path(path).read_bytes()
    return replace(assignment, orders=tuple(orders)), files


def _moved(order: Order, here: Mapping[str, Path], out: Path) -> Order:
    """An order whose files lie elsewhere, and whose output is to."""
    files = {key: str(here[path]) for key, path in order.files.items()}
    return replace(order, files=files, output=str(out / str(order.number) / Path(order.output).name))


def _files_below(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

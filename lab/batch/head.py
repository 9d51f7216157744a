"""The head of a batch: deals tasks out to an executor, publishes what comes, and writes the ledger. There is one.

    for happened in Head(place, ledger, executor).run():
        ...                                     # say it, show it, or stop whenever you like

However it ends, the next head goes on: what was published is taken over, what was only begun is begun again.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lab.batch import requests
from lab.batch.content import COMPANIED
from lab.batch.executors.executor import Assignment, Executor, Order, Report
from lab.batch.ledger.ledger import Ledger
from lab.batch.ledger.rows import Files, Row
from lab.batch.ledger.states import State
from lab.batch.place import Place
from lab.batch.results import publish
from lab.batch.results.delivery import Deliver, Deliveries, Owed
from lab.batch.results.taken import is_of_batch, made_before
from shared.errors import InputError, KinoformError, OutputError

POLL_SECONDS = 0.2
HANG_SECONDS = 1200.0  # without a sign of life
ALIVE_SECONDS = 1.0  # between two that the ledger hears of


@dataclass(frozen=True)
class Happened:
    """A task has come to an end, or to the end of an attempt; "owed": it is made, and its files cannot be delivered,
    which `why` tells; "waiting": nothing has happened, for some time.
    """

    what: Literal["done", "known", "failed", "again", "taken away", "owed", "waiting"]
    row: Row | None = None
    why: str = ""


@dataclass
class Running:
    """An assignment that is under way. heard: when, by a clock that nobody sets."""

    rows: dict[int, Row]
    heard: float
    told: float = 0.0
    shares: dict[int, float] = field(default_factory=dict)


@dataclass
class Head:
    """most: how many tasks of a step are done together. score: also say how well results agree with their prompts.
    forever: wait for more when all is done. hang: seconds after which a silent worker is taken for stuck.
    stopping: asked in every round; once it says yes, nothing new is begun. arrivals: called in every round, for what
    else there is to take up; whether there was anything. finish: called with every file that is made, before it is
    published: it may change it. deliver: called with the names of files that are published, before they count as
    done. fetch: called with the name of a file that a task is to make: it may bring it, where it was made before.
    """

    place: Place
    ledger: Ledger
    executor: Executor
    most: Mapping[str, int] = field(default_factory=dict)
    score: bool = False
    forever: bool = False
    hang: float = HANG_SECONDS
    stopping: Callable[[], bool] = lambda: False
    arrivals: Callable[[], bool] = lambda: False
    finish: Callable[[Path], None] = lambda file: None
    deliver: Deliver | None = None
    fetch: Callable[[str], None] = lambda name: None
    _running: dict[int, Running] = field(init=False, default_factory=dict)
    _last: dict[str, str] = field(init=False, default_factory=dict)  # the affinity of what a worker did last
    _twins: bool = field(init=False, default=True)
    _deliveries: Deliveries = field(init=False)

    def __post_init__(self) -> None:
        self._deliveries = Deliveries(self.ledger, self.deliver)

    def run(self) -> Iterator[Happened]:
        """Until nothing is left that can be done. Raises OutputError where the disk is full: nothing is lost by it."""
        try:
            self.recover()
            while True:
                self._twins |= self.arrivals()
                self._hear_requests()
                yield from self._take_over()
                draining = self.stopping()
                if not draining:
                    yield from self._deal()
                if not self._running and (draining or not self._is_anything_left()):
                    return
                reports = self.executor.poll(POLL_SECONDS)
                for report in reports:
                    yield from self._hear(report)
                yield from self._drop_the_stuck()
                yield from self._deliver()
                if not reports:
                    yield Happened("waiting")
        except (OSError, sqlite3.OperationalError) as error:
            if isinstance(error, KinoformError):
                raise
            raise OutputError(
                f"batch {self.place.folder}", expected="a folder that can be written to", got=str(error),
                hint="Nothing is lost: make room, and run the same command again",
            ) from error  # fmt: skip
        finally:
            self._let_go()

    def recover(self) -> None:
        """What a head of before left: files that it was about to publish are; what else it began is queued again."""
        for row in list(self.ledger.each(State.RUNNING)):
            token = row.token or 0
            stage = self._stage(token, row.number)
            if row.files:
                with suppress(InputError):
                    publish.publish(stage, self.place.results, row, row.files)
            if publish.is_there(self.place.results, row.files) and not self._deliveries(row.files):
                self.ledger.finish(row.number, token, now=time.time())
            else:
                self.ledger.give_back(row.number, token, now=time.time())
        for left in self.place.stage.iterdir():
            shutil.rmtree(left, ignore_errors=True)

    def look_after(self) -> int:
        """Queue done tasks again whose files are gone or are not what was published; the number of them."""
        lost = [row for row in self.ledger.each(State.DONE) if not publish.is_there(self.place.results, row.files)]
        for row in lost:
            self.ledger.again(row.number, "its file was gone or changed", now=time.time())
        return len(lost)

    def _is_anything_left(self) -> bool:
        return self.forever or bool(self._deliveries.owed) or self.ledger.counts()[State.QUEUED] > 0

    def _stage(self, token: int, number: int) -> Path:
        return self.place.stage / str(token) / str(number)

    def _hear_requests(self) -> None:
        for file, request in requests.waiting(self.place):
            try:
                tasks, tokens = requests.do(self.ledger, request, time.time())
                told = requests.Answer(tasks)
                for token in tokens & self._running.keys():
                    self.executor.cancel(token)
                self._twins = True
            except KinoformError as error:
                told = requests.Answer(error=str(error))
            requests.answer(file, told)

    def _take_over(self) -> Iterator[Happened]:
        """Queued tasks of which another has made the same."""
        if not self._twins or self._deliveries.rests():
            return
        self._twins = False
        for row, twin in self.ledger.twins():
            if not publish.is_there(self.place.results, twin.files):
                self.ledger.again(twin.number, "its file was gone or changed", now=time.time())
                continue
            files = publish.taken_over(self.place.results, twin, row)
            wrong = self._deliveries(files)
            if wrong:  # its twin's was delivered: the place is gone for all
                if self._deliveries.is_hopeless(wrong, idle=not self._running):
                    raise OutputError(f"{row.id}: {wrong.why}", hint="The same command goes on, once it is there again")
                self._twins = True
                return
            self.ledger.adopt(row.number, files, now=time.time(), scores=twin.scores)
            self._twins = True  # what waited for it may have twins
            yield Happened("known", self.ledger.row(row.number))

    def _deal(self) -> Iterator[Happened]:
        """Something to do for every free worker."""
        for worker in self.executor.free():
            while True:
                rows = self.ledger.lease(worker, self.most, now=time.time(), like=self._last.get(worker, ""))
                left = []
                for row in rows:
                    ended = list(self._from_before(row))
                    yield from ended
                    if not ended:
                        left.append(row)
                if left or not rows:
                    break
            if not left:
                return
            self._last[worker] = left[0].affinity
            self._give(worker, left)

    def _from_before(self, row: Row) -> Iterator[Happened]:
        """How a task ends at once whose file is there: taken over if it is what would be made, else failed, unless it
        is an older result that may be replaced. Nothing, where it is to be made.
        """
        target = self.place.results / row.output
        token = row.token or 0
        try:
            publish.check_inside(self.place.results, target)
            self.fetch(row.output)
            if not target.exists():
                return
            files = made_before(row, self._order(row), target)
            if files is not None and self.deliver is not None and target.suffix.lower() in COMPANIED:
                return  # made again, with all that belongs to it
            if files is not None:
                self.ledger.intend(row.number, token, files)
                yield from self._finish(row, token, files, "known")
                return
            if not is_of_batch(target):
                hint = "Move it away, or name the task otherwise"
                raise InputError(
                    f"output {target}", expected="no other file there", got="one of somebody else", hint=hint
                )
        except InputError as error:
            self.ledger.fail(row.number, token, str(error), now=time.time(), for_good=True)
            yield Happened("failed", self.ledger.row(row.number))

    def _order(self, row: Row) -> Order:
        results = self.place.results
        outputs = {key: self.ledger.output(row.manifest, id) for key, id in row.inputs.items()}
        files = {key: str(results / output) for key, output in outputs.items()}
        names = {key: publish.beside(row.output, output) for key, output in outputs.items()}
        target = self._stage(row.token or 0, row.number) / Path(row.output).name
        return Order(row.number, row.recipe, str(target), files, names)

    def _give(self, worker: str, rows: list[Row]) -> None:
        token = rows[0].token or 0
        orders = tuple(self._order(row) for row in rows)
        self._running[token] = Running({row.number: row for row in rows}, time.monotonic())
        self.executor.give(worker, Assignment(token, rows[0].step, orders, self.score))

    def _hear(self, report: Report) -> Iterator[Happened]:
        running = self._running.get(report.token)
        if running is None:  # of a lease that is over
            return
        running.heard = time.monotonic()
        if report.event == "alive":
            running.shares |= {int(number): share for number, share in report.shares.items()}
            if running.heard - running.told >= ALIVE_SECONDS:
                running.told = running.heard
                self.ledger.renew(report.token, now=time.time(), shares=running.shares)
        elif report.event in ("made", "broke"):
            row = running.rows.pop(report.number or 0, None)
            if row is not None:  # else it was taken for stuck, and spoke after all
                yield from self._publish(report, row) if report.event == "made" else self._failed(report, row)
        else:
            del self._running[report.token]
            for row in running.rows.values():
                if report.event == "gone" and report.fault == "work":
                    yield from self._failed(report, row)
                elif self.ledger.give_back(row.number, report.token, now=time.time()):
                    yield Happened("taken away", self.ledger.row(row.number))
            shutil.rmtree(self.place.stage / str(report.token), ignore_errors=True)

    def _publish(self, report: Report, row: Row) -> Iterator[Happened]:
        stage, now = self._stage(report.token, row.number), time.time()
        try:
            self.finish(stage / Path(row.output).name)
            files = publish.staged(stage, row.output)
            if self.ledger.intend(row.number, report.token, files, seconds=report.seconds, scores=report.scores):
                publish.publish(stage, self.place.results, row, files)
                yield from self._finish(row, report.token, files, "done")
        except InputError as error:
            self.ledger.fail(row.number, report.token, str(error), now=now, for_good=True)
            yield Happened("failed", self.ledger.row(row.number))

    def _finish(self, row: Row, token: int, files: Files, what: Literal["done", "known"]) -> Iterator[Happened]:
        """The end of a task whose files are published."""
        self._deliveries.owed.append(Owed(row, token, files, what))
        yield from self._deliver()

    def _deliver(self) -> Iterator[Happened]:
        for outcome, number, why in self._deliveries.settle(idle=not self._running):
            self._twins |= outcome in ("done", "known")
            yield Happened(outcome, self.ledger.row(number), why)

    def _failed(self, report: Report, row: Row) -> Iterator[Happened]:
        """A failure is the task's own. A full disk is nobody's: all stops until there is room."""
        if report.fault == "disk":
            self.ledger.give_back(row.number, report.token, now=time.time())
            raise OutputError(report.error or "the disk is full", hint="Make room, and run the same command again")
        error = report.error or "it failed"
        state = self.ledger.fail(row.number, report.token, error, now=time.time(), for_good=report.fault == "input")
        if state is not None:
            what: Literal["again", "failed"] = "again" if state is State.QUEUED else "failed"
            yield Happened(what, self.ledger.row(row.number))

    def _drop_the_stuck(self) -> Iterator[Happened]:
        """Ends workers that say nothing. It is charged to their tasks: a worker that is stopped does not get stuck."""
        now = time.monotonic()
        for token, running in list(self._running.items()):
            if now - running.heard <= self.hang:
                continue
            silent = Report(token, "broke", error=f"its worker said nothing for {self.hang:.0f} s", fault="work")
            for row in list(running.rows.values()):
                yield from self._failed(silent, row)
            running.rows.clear()
            running.heard = now
            self.executor.drop(token)

    def _let_go(self) -> None:
        """Give back what is under way, and end the workers."""
        self.executor.close()
        held = [(row, token) for token, running in self._running.items() for row in running.rows.values()]
        for row, token in [*held, *((task.row, task.token) for task in self._deliveries.owed)]:
            with suppress(sqlite3.Error):
                self.ledger.give_back(row.number, token, now=time.time())
        self._running.clear()

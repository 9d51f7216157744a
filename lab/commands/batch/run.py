"""`kinoform batch run` and `watch`: a manifest through a head, with what happens told."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lab.batch.ledger.enqueue import enqueue
from lab.batch.ledger.ledger import Ledger
from lab.batch.ledger.states import LOST, State
from lab.batch.place import Place
from lab.batch.results.remote import Remote, claim
from lab.commands.batch.workers import WorkerOptions, executor_of
from lab.jobs.save import origin
from lab.kinds import kinds
from lab.show.batch_page import BatchPage
from lab.show.batch_status import Pace, Standing, lasting, lost, standing, told
from lab.show.console import Console
from lab.signals import collected
from shared.artifacts.provenance.signature import GENERATED, MEDIA_TYPES, Signer
from shared.artifacts.run_record import read_record
from shared.errors import KinoformError

SUFFIXES = (".yaml", ".yml", ".json", ".jsonl", ".txt")  # of manifests that are watched for
SETTLED_SECONDS = 1.0  # in which a manifest has not changed


@dataclass(frozen=True)
class BatchOptions:
    """settings: defaults of all jobs. exact: each task alone. hang: seconds of silence. signer: of what is made.
    remote: where it goes, too.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = False
    score: bool = True
    hang: int = 1200
    signer: Signer | None = None
    remote: Remote | None = None
    workers: WorkerOptions = field(default_factory=WorkerOptions)


def run_batch(file: Path, place: Place, options: BatchOptions, console: Console) -> None:
    """Raises KinoformError at the end where some tasks have failed."""
    from lab.batch.content import entries
    from lab.batch.manifest import read_manifest

    with console.timed("read"):
        asked = entries(read_manifest(file, defaults=options.settings))
    with place.headed(), closing(_opened(place, options)) as ledger:
        with console.timed("enqueue"):
            counts = enqueue(ledger, file.name, asked, now=time.time())
        parts = (
            (counts.new, "new"), (counts.known, "known"), (counts.changed, "changed"),
            (counts.dropped, "no longer in the manifest"),
        )  # fmt: skip
        console.say(f"{file}: {', '.join(f'{n} {what}' for n, what in parts if n) or 'nothing to do'}")
        _go(place, ledger, options, console, lambda: False, forever=False)


def watch_folder(folder: Path, place: Place, options: BatchOptions, console: Console) -> None:
    """Until it is interrupted."""
    with place.headed(), closing(_opened(place, options)) as ledger:
        console.say(f"watching {folder} for manifests ({' '.join(SUFFIXES)}); Ctrl-C ends it")
        arrivals = Arrivals(folder, ledger, options, console)
        _go(place, ledger, options, console, arrivals, forever=True)


def _opened(place: Place, options: BatchOptions) -> Ledger:
    claim(place, options.remote)
    return Ledger.open(place.ledger)


@dataclass
class Signing:
    """Called with every file that is made: signs it, where that is asked for and its format holds a signature."""

    signer: Signer | None
    console: Console
    passed_over: set[str] = field(default_factory=set)

    def __call__(self, file: Path) -> None:
        if self.signer is None:
            return
        if file.suffix.lower() in MEDIA_TYPES:
            record = read_record(file)
            kind = kinds().get(record.command)
            self.signer.sign(file, file, GENERATED if kind is None else origin(kind, record))
        elif file.suffix not in self.passed_over:
            self.passed_over.add(file.suffix)
            self.console.warn(f"{file.suffix} files stay unsigned: C2PA has no place in them")


@dataclass
class Arrivals:
    """Called again and again: takes up manifests that are new in a folder, or have changed."""

    folder: Path
    ledger: Ledger
    options: BatchOptions
    console: Console
    seen: dict[Path, tuple[int, int]] = field(default_factory=dict)
    changed: dict[Path, tuple[tuple[int, int], float]] = field(default_factory=dict)  # and when, by our own clock

    def __call__(self) -> bool:
        from lab.batch.content import entries
        from lab.batch.manifest import read_manifest

        came = False
        for file in sorted(self.folder.iterdir()):
            if file.suffix.lower() not in SUFFIXES or file.name.startswith(".") or not file.is_file():
                continue
            stat = file.stat()
            known, now = (stat.st_mtime_ns, stat.st_size), time.monotonic()
            if self.changed.get(file, (None,))[0] != known:
                self.changed[file] = known, now
            if self.seen.get(file) == known or now - self.changed[file][1] < SETTLED_SECONDS:
                continue
            self.seen[file] = known
            try:
                asked = entries(read_manifest(file, defaults=self.options.settings))
                counts = enqueue(self.ledger, file.name, asked, now=time.time())
                came = True
                self.console.say(f"{file.name}: {counts.new} new, {counts.changed} changed, {counts.known} known")
            except KinoformError as error:
                self.console.warn(f"{file.name} is left: {error}")
        return came


def _go(
    place: Place,
    ledger: Ledger,
    options: BatchOptions,
    console: Console,
    arrivals: Callable[[], bool],
    *,
    forever: bool,
) -> None:
    from lab.batch.head import Head
    from lab.batch.steps import batch_sizes

    carry: dict[str, Any] = {}
    if options.remote is not None:
        carry = {
            "deliver": partial(options.remote.deliver, place.results),
            "fetch": partial(options.remote.fetch, place.results),
        }
        console.say(f"results go to {options.remote.shown}; ledger and page: {place.folder}")
    executor, where = executor_of(place, ledger, options.workers, forever=forever)
    with closing(executor), collected() as signals:
        head = Head(
            place, ledger, executor, batch_sizes(options.exact, where), options.score, forever, float(options.hang),
            stopping=lambda: bool(signals), arrivals=arrivals, finish=Signing(options.signer, console),
            **carry,
        )  # fmt: skip
        gone = head.look_after()
        if gone:
            console.say(f"{gone} done before, whose files are gone or changed, are made again")
        if ledger.paused:
            console.say(f"paused: kinoform batch resume {shlex.quote(str(place.folder))}")
        page = BatchPage(place, ledger)
        page.update(now=True)
        console.follow("batch", _told(head, ledger, console, page, signals))
        page.update(now=True)
    folder = shlex.quote(str(place.folder))
    counts = ledger.counts()
    failures = list(lost(ledger, folder))
    for line in failures:
        console.say(line)
    console.result(
        [told(counts), f"all of it on one page: {page.page.index}"],
        outputs=[page.page.index],
        counts={state.value: n for state, n in counts.items()},
        failures=failures,
    )
    if signals:
        console.say(f"stopped: the same command goes on; kinoform batch status {folder}")
        raise KeyboardInterrupt
    bad = sum(counts[state] for state in LOST)
    if bad:
        raise KinoformError(
            f"{bad} of {sum(counts.values())} tasks were not made", hint=f"kinoform batch retry {folder}"
        )


def _told(head: Any, ledger: Ledger, console: Console, page: BatchPage, signals: list[int]) -> Iterator[Standing]:
    """Tells what happens, and yields how the batch stands."""
    pace = Pace()
    draining = False
    with closing(head.run()) as happenings:
        for happened in happenings:
            row = happened.row
            if happened.what in ("done", "known", "failed"):
                pace.ended()
            if happened.what == "done":
                console.tell(f"made {row.output}")
            elif happened.what == "known":
                console.tell(f"there already {row.output}")
            elif happened.what in ("failed", "again"):
                console.say(f"{happened.what}: {row.id}: {row.error}")
            elif happened.what == "taken away":
                console.say(f"taken away: {row.id} is queued again")
            elif happened.what == "owed":
                console.say(f"{row.id}: {happened.why}; it is tried again, and the rest goes on")
            if signals and not draining:
                draining = True
                console.say("stopping: those under way are finished; Ctrl-C once more stops at once")
            if len(signals) > 1:
                return
            page.update()
            yield _paced(ledger, pace)
    yield _paced(ledger, pace)


def _paced(ledger: Ledger, pace: Pace) -> Paced:
    counts = ledger.counts()
    now = standing(counts)
    return Paced(now.step, now.total, counts[State.RUNNING], pace.seconds_left(counts))


@dataclass(frozen=True)
class Paced(Standing):
    """How a batch stands, and how long the rest will take. seconds_left: None where nobody knows yet."""

    running: int
    seconds_left: float | None

    @property
    def note(self) -> str:
        left = "" if self.seconds_left is None else f", about {lasting(self.seconds_left)} left"
        return f" {self.running} running{left}"

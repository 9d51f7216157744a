"""What a command says: progress and warnings on stderr; on stdout the result, as text or as one JSON line."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from lab.jobs.events import Done, Event, Failed, Stepped, Timed, Warned
from lab.show.preview import Preview
from lab.show.progress import PLAIN_SECONDS, Meter, meter
from shared.compute.process_memory import peak_bytes
from shared.errors import KinoformError, printable


@runtime_checkable
class Step(Protocol):
    """The part of a loop's state that progress needs; training adds `loss` and `lr`, distillation `gradient_rms`."""

    @property
    def step(self) -> int: ...
    @property
    def total(self) -> int: ...


S = TypeVar("S", bound=Step)
A = TypeVar("A")
B = TypeVar("B")


class Console:
    """The voice of one command, with the times it has taken (`seconds`) and the warnings it gave (`warnings`)."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self._started = time.perf_counter()
        self._meter: Meter | None = None
        self._blind = False  # no previews any more

    def say(self, text: str) -> None:
        line = f"kinoform: {text}"
        if self._meter is not None:
            self._meter.say(line)
        else:
            print(printable(line), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.say(f"warning: {text}")

    def tell(self, line: str) -> None:
        """A line of the result, before the end; programs get all of it in the end."""
        if self.as_json:
            return
        if self._meter is not None:
            self._meter.say(line, result=True)
        else:
            print(printable(line), flush=True)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time inside to `seconds[name]`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._spent(name, time.perf_counter() - started)

    @contextmanager
    def if_interrupted(self, advice: str) -> Iterator[None]:
        """Say `advice` where the work inside is interrupted."""
        try:
            yield
        except KeyboardInterrupt:
            self.say(advice)
            raise

    def _spent(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @contextmanager
    def _metered(self, every: float = PLAIN_SECONDS) -> Iterator[Meter]:
        with meter(every) as self._meter:
            try:
                yield self._meter
            finally:
                self._meter = None

    def follow(self, name: str, states: Iterable[S], every: float = PLAIN_SECONDS) -> S:
        """Run a loop to its end and return its last state, with a bar on a terminal, else a line every `every` seconds.

        Raises KinoformError for a loop with nothing to do.
        """
        with self.timed(name), self._metered(every) as shown:
            last = deque(_shown(name, states, shown), maxlen=1)
        if not last:
            raise KinoformError(name, expected="steps to do", got="none")
        return last[0]

    def watch(self, events: Iterable[Event], count: int, preview: Preview | None = None) -> Iterator[Done | Failed]:
        """Show what a run of `count` jobs tells, and hand on how each of them ends."""
        ended = None
        with self._metered() as shown:
            for event in events:
                if isinstance(event, Timed):
                    self._spent(event.stage, event.seconds)
                elif isinstance(event, Warned):
                    self.warn(event.text)
                elif isinstance(event, Stepped):
                    shown.show(_title(event, count), event.step, event.total, _numbers(event))
                    if preview is not None and event.preview is not None:
                        shown.picture(self._look(preview.update, event.preview))
                else:
                    ended = event
                    if preview is not None and isinstance(event, Done):
                        self._look(preview.finished, event.result.thumbnails)
                    yield event
        if preview is not None and count == 1 and isinstance(ended, Done):
            print(self._look(preview.closing, ended.result.thumbnails) or "", end="", file=sys.stderr, flush=True)

    def _look(self, look: Callable[[Callable[[], A]], B], pictures: Callable[[], A]) -> B | None:
        """One preview. What it does wrong is a warning and no error, and the end of previews."""
        if self._blind:
            return None
        try:
            return look(pictures)
        except Exception as error:
            self._blind = True
            self.warn(f"no preview: {error if isinstance(error, KinoformError) else type(error).__name__}")
            return None

    def result(self, lines: Iterable[str] = (), **fields: Any) -> None:
        """End the command: `lines` for people, or `fields` with timings and peak memory as one line of JSON."""
        if self.as_json:
            self.seconds["total"] = time.perf_counter() - self._started
            seconds = {name: round(value, 3) for name, value in self.seconds.items()}
            fields = {**fields, "seconds": seconds, **peak_memory(), "warnings": self.warnings}
            print(json.dumps(fields, default=_plain, allow_nan=False))
            return
        for line in lines:
            print(printable(line))


def _shown(name: str, states: Iterable[S], shown: Meter) -> Iterator[S]:
    for state in states:
        shown.show(name, state.step, state.total, _numbers(state))
        yield state


def _title(event: Stepped, count: int) -> str:
    """What is under way: the stage, and of many jobs which."""
    if count == 1:
        return event.stage
    first, last = event.jobs[0] + 1, event.jobs[-1] + 1
    return f"{event.stage} {f'{first}' if first == last else f'{first} to {last}'} of {count}"


def _numbers(state: Any) -> str:
    """What progress shows beside the step, of what the state has: numbers, and its note."""
    shown = (("loss", "loss", ".4f"), ("gradient_rms", "gradient", ".4f"), ("lr", "lr", ".2e"))
    values = [(label, getattr(state, name, None), form) for name, label, form in shown]
    numbers = "".join(f" {label} {float(value):{form}}" for label, value, form in values if value is not None)
    return numbers + getattr(state, "note", "")


def _plain(value: Any) -> Any:
    """JSON for what the standard encoder refuses: paths, numpy scalars and torch scalars."""
    return str(value) if isinstance(value, Path) else value.item()


def peak_memory() -> dict[str, int]:
    """The most memory this process has held so far, in bytes (and on the GPU, where it used one)."""
    most = peak_bytes()
    peak = {} if most is None else {"peak_memory_bytes": most}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        peak["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated()
    return peak

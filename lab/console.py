"""What a command says: progress and warnings on stderr; on stdout the result, as text or as one JSON line."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from shared.errors import KinoformError, printable
from shared.process_memory import peak_bytes

PLAIN_SECONDS = 2.0  # between two plain progress lines


@runtime_checkable
class Step(Protocol):
    """The part of a loop's state that progress needs; training adds `loss`."""

    @property
    def step(self) -> int: ...
    @property
    def total(self) -> int: ...


S = TypeVar("S", bound=Step)


class Console:
    """The voice of one command, with the times it has taken (`seconds`) and the warnings it gave (`warnings`)."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self._started = time.perf_counter()

    def say(self, text: str) -> None:
        print(f"kinoform: {printable(text)}", file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.say(f"warning: {text}")

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time inside to `seconds[name]`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def follow(self, name: str, states: Iterable[S], every: float = PLAIN_SECONDS) -> S:
        """Run a loop to its end and return its last state, with a bar on a terminal, else a line every `every` seconds.

        Raises KinoformError for a loop with nothing to do: a training whose checkpoint is at its last step.
        """
        with self.timed(name):
            shown = self._bar(name, states) if sys.stderr.isatty() else self._lines(name, states, every)
            last = deque(shown, maxlen=1)
        if not last:
            raise KinoformError(name, expected="steps to do", got="none")
        return last[0]

    def _lines(self, name: str, states: Iterable[S], every: float) -> Iterator[S]:
        said = float("-inf")
        for state in states:
            if time.perf_counter() - said >= every or state.step >= state.total:
                said = time.perf_counter()
                self.say(f"{name}: {state.step}/{state.total}{_numbers(state)}")
            yield state

    def _bar(self, name: str, states: Iterable[S]) -> Iterator[S]:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=RichConsole(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=None)
            for state in states:
                bar.update(task, completed=state.step, total=state.total, description=name + _numbers(state))
                yield state

    def result(self, lines: Iterable[str] = (), **fields: Any) -> None:
        """End the command: `lines` for people, or `fields` with timings and peak memory as one line of JSON."""
        if self.as_json:
            self.seconds["total"] = time.perf_counter() - self._started
            seconds = {name: round(value, 3) for name, value in self.seconds.items()}
            fields = {**fields, "seconds": seconds, **peak_memory(), "warnings": self.warnings}
            lines = [json.dumps(fields, default=_plain, allow_nan=False)]
        for line in lines:
            print(printable(line))  # it may hold what a file or the user said


def _numbers(state: Step) -> str:
    loss, lr = getattr(state, "loss", None), getattr(state, "lr", None)
    text = "" if loss is None else f" loss {float(loss):.4f}"
    return text if lr is None else f"{text} lr {lr:.2e}"


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

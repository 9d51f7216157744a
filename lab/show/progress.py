"""How far a loop is: a bar with rate and time left on a terminal, plain lines elsewhere. All of it on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from shared.errors import printable

if TYPE_CHECKING:
    import numpy as np

PLAIN_SECONDS = 2.0  # between two plain lines
REFRESHES = 2  # of a bar in a second; with a picture each is some 40 KB to the terminal


@runtime_checkable
class Meter(Protocol):
    """Shows progress while it is entered; `show` after every step, `say` for a line between."""

    def __enter__(self) -> Meter: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, name: str, step: int, total: int, detail: str = "") -> None: ...
    def say(self, line: str, *, result: bool = False) -> None: ...
    def picture(self, pixels: np.ndarray | None) -> None: ...


def meter(every: float = PLAIN_SECONDS) -> Meter:
    """The meter for where stderr goes. every: seconds between plain lines."""
    return Bar() if sys.stderr.isatty() else Lines(every)


class Lines:
    """A line at the first step, at the last, and every so many seconds."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._name = ""
        self._said = float("-inf")

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def show(self, name: str, step: int, total: int, detail: str = "") -> None:
        if name != self._name or step >= total or time.perf_counter() - self._said >= self._every:
            self._name, self._said = name, time.perf_counter()
            self.say(f"kinoform: {name}: {step}/{total}{detail}")

    def say(self, line: str, *, result: bool = False) -> None:
        print(printable(line), file=sys.stdout if result else sys.stderr, flush=True)

    def picture(self, pixels: np.ndarray | None) -> None:
        return None


class Bar:
    """One bar, with the rate, the time left and, where there is one, a small picture below it; gone at the end."""

    def __enter__(self) -> Bar:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._group = Group
        self._task = self._bar.add_task("", total=None, rate="")
        self._name = ""
        # What goes to standard output is the result and must not come out on standard error.
        self._live = Live(
            self._bar,
            console=self._console,
            refresh_per_second=REFRESHES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self._live.__exit__(*details)

    def show(self, name: str, step: int, total: int, detail: str = "") -> None:
        if name != self._name:
            self._name = name
            self._bar.reset(self._task, total=total)
        task = self._bar.tasks[0]
        rate = f"{task.speed:.1f}/s" if task.speed and task.speed >= 1 else ""
        if task.speed and task.speed < 1:
            rate = f"{1 / task.speed:.1f} s each"
        self._bar.update(self._task, completed=step, total=total, description=printable(name + detail), rate=rate)

    def say(self, line: str, *, result: bool = False) -> None:
        if result and not sys.stdout.isatty():
            print(printable(line), flush=True)
        else:
            self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def picture(self, pixels: np.ndarray | None) -> None:
        from lab.show.terminal_picture import as_rich

        if pixels is not None:
            self._live.update(self._group(self._bar, as_rich(pixels)))

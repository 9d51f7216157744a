"""How a batch stands, in words."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lab.batch.ledger.reader import Reader
from lab.batch.ledger.states import LOST, State

WINDOW = 40  # ends of tasks that the rate is taken from
SHOWN = 20  # lost tasks that are listed
OPEN = (State.QUEUED, State.RUNNING, State.BLOCKED)


@dataclass(frozen=True)
class Standing:
    """`step` of `total` tasks are done or lost."""

    step: int
    total: int


@dataclass
class Pace:
    """How fast tasks end."""

    ends: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    began: float = field(default_factory=time.monotonic)

    def ended(self) -> None:
        self.ends.append(time.monotonic())

    def a_minute(self) -> float | None:
        """Tasks a minute, of late; None before the first has ended."""
        if not self.ends:
            return None
        since = self.began if len(self.ends) < WINDOW else self.ends[0]
        return 60 * len(self.ends) / max(time.monotonic() - since, 1e-3)

    def seconds_left(self, counts: Mapping[State, int]) -> float | None:
        rate = self.a_minute()
        left = sum(counts[state] for state in OPEN)
        return None if not rate else 60 * left / rate


def standing(counts: Mapping[State, int]) -> Standing:
    total = sum(counts.values())
    return Standing(total - sum(counts[state] for state in OPEN), total)


def told(counts: Mapping[State, int]) -> str:
    """The counts in one line."""
    total = sum(counts.values())
    others = [f"{counts[state]} {state.value}" for state in State if state is not State.DONE and counts[state]]
    return ", ".join([f"{counts[State.DONE]} of {total} done", *others])


def lost(ledger: Reader, folder: str) -> Iterator[str]:
    """Tasks that nothing will be of by itself, each with its error, and the command that tries them again."""
    counts = ledger.counts()
    count = sum(counts[state] for state in LOST) + counts[State.BLOCKED]
    for listed, row in enumerate(ledger.each(*LOST, State.BLOCKED)):
        if listed == SHOWN:
            yield f"... and {count - SHOWN} more: kinoform batch export {folder} -o tasks.csv"
            break
        why = ledger.why(row)
        yield f"{row.state.value}: {row.id}{f': {why}' if why else ''}"
    if any(counts[state] for state in LOST):
        yield f"try those again: kinoform batch retry {folder}"


def lasting(seconds: float) -> str:
    """A time in two parts at most."""
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 1:
        return f"{int(hours)} h {int(minutes % 60)} min"
    return f"{minutes:.0f} min" if minutes >= 1.5 else f"{seconds:.0f} s"

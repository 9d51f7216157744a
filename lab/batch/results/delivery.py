"""Published files on their way to where they are to be besides, and what is done while there is no way.

An outage is no task's fault, and no reason to make less: what cannot be delivered is owed, and tried again after a
while, as others are made. Only where nothing else is left to do does patience end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from lab.batch.ledger.ledger import Ledger
from lab.batch.ledger.rows import Files, Row

AGAIN_SECONDS = 10.0  # between two tries
PATIENCE_SECONDS = 300.0  # of an outage, where nothing else is left to do


@dataclass(frozen=True)
class Undelivered:
    """why: in a line. for_good: another try would not go otherwise."""

    why: str
    for_good: bool = False


# Called with the names of files that are published; what went wrong, or None.
Deliver: TypeAlias = Callable[[Iterable[str]], Undelivered | None]


@dataclass(frozen=True)
class Owed:
    """A task that is made and published, and counts as done once its files are delivered. token: of its lease."""

    row: Row
    token: int
    files: Files
    what: Literal["done", "known"]


@dataclass
class Deliveries:
    """deliver: None where files are where they are to be already. owed: tasks whose files are not yet. Times are by a
    clock that nobody sets.
    """

    ledger: Ledger
    deliver: Deliver | None
    owed: deque[Owed] = field(default_factory=deque)
    _out_since: float | None = None
    _tried: float = 0.0

    def __call__(self, names: Iterable[str]) -> Undelivered | None:
        """Deliver files now. What is wrong for good is wrong with the files, and says nothing of the place."""
        wrong = None if self.deliver is None else self.deliver(names)
        if wrong is None:
            self._out_since = None
        elif not wrong.for_good:
            self._tried = time.monotonic()
            self._out_since = self._tried if self._out_since is None else self._out_since
        return wrong

    def rests(self) -> bool:
        """Whether there is an outage, and it is too soon for another try."""
        return self._out_since is not None and time.monotonic() - self._tried < AGAIN_SECONDS

    def is_hopeless(self, wrong: Undelivered, *, idle: bool) -> bool:
        """Whether to give up. idle: nothing else is left to do."""
        is_long = self._out_since is not None and time.monotonic() - self._out_since >= PATIENCE_SECONDS
        return wrong.for_good or (idle and is_long)

    def settle(self, *, idle: bool) -> Iterator[tuple[Literal["done", "known", "failed", "owed"], int, str]]:
        """Deliver what is owed, as far as the place takes it; what came of a task, its number, and what was wrong. What
        fails is tried again after all else: "owed", told once an outage.
        """
        while self.owed and not self.rests():
            task, begins = self.owed.popleft(), self._out_since is None
            wrong, number = self(task.files), task.row.number
            if wrong is None:
                self.ledger.finish(number, task.token, now=time.time())
                yield task.what, number, ""
            elif self.is_hopeless(wrong, idle=idle):
                self.ledger.fail(number, task.token, wrong.why, now=time.time(), for_good=True)
                yield "failed", number, wrong.why
            else:
                self.owed.append(task)
                if begins:
                    yield "owed", number, wrong.why

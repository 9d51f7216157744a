"""What a task of a batch can be, seen from outside: a step turns recipes into files.

`takes` of a step: the keys of its recipe that another task's output may fill, and of which sort that may be. What a
step makes has a sort, too: the name of its kind ("image", "clip", "asset"), "text", or, of one that keeps what it is
given, SAME.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lab.jobs.events import Event
from lab.jobs.run import Context
from shared.recipe import Recipe

SAME = "same"


@dataclass(frozen=True)
class Work:
    """recipe: of the step's class; its files where they lie now. output: the file to write. names: what the run record
    is to call the recipe's files, by key.
    """

    recipe: Any
    output: Path
    names: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Step(Protocol):
    """name: as manifests say it. recipe: its class. suffix: the ending of what it writes, where a manifest names none;
    None: that of what it takes.
    """

    @property
    def name(self) -> str: ...
    @property
    def recipe(self) -> type[Recipe]: ...
    @property
    def takes(self) -> Mapping[str, frozenset[str]]: ...
    @property
    def makes(self) -> str: ...
    @property
    def suffix(self) -> str | None: ...

    def check(self, recipe: Any, output: Path) -> None:
        """Raises InputError for an output that cannot be written."""
        ...

    def run(self, works: Sequence[Work], context: Context) -> Iterator[Event]:
        """Makes every work's file; events as `lab.jobs.run.run`."""
        ...

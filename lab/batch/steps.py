"""All steps: every kind of the kind table, and the tools that take what another task made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lab.batch.step import Step, Work
from lab.batch.tools import TOOLS
from lab.jobs.events import Event
from lab.jobs.run import Context, Job, run
from lab.kinds import Kind, kinds
from shared.recipe import Recipe


@dataclass(frozen=True)
class KindStep:
    """A kind of the kind table as a step."""

    kind: Kind

    @property
    def name(self) -> str:
        return self.kind.name

    @property
    def recipe(self) -> type[Recipe]:
        return self.kind.recipe

    @property
    def takes(self) -> Mapping[str, frozenset[str]]:
        return {key: frozenset({"image"}) for key in self.kind.recipe.made_file_keys()}

    @property
    def makes(self) -> str:
        return self.kind.name

    @property
    def suffix(self) -> str:
        return Path(self.kind.default).suffix

    def check(self, recipe: Any, output: Path) -> None:
        self.kind.check(recipe, self.kind.output(str(output)))

    def run(self, works: Sequence[Work], context: Context) -> Iterator[Event]:
        jobs = [Job(work.recipe, self.kind.output(str(work.output)), names=work.names) for work in works]
        return run(jobs, context)


@cache
def steps() -> dict[str, Step]:
    """All steps by name."""
    return {**{name: KindStep(kind) for name, kind in kinds().items()}, **{tool.name: tool for tool in TOOLS}}


def batch_sizes(exact: bool, device: str) -> dict[str, int]:
    """How many tasks of each step are best done together. exact: one by one."""
    return {name: 1 if exact else kind.batch_size(device) for name, kind in kinds().items() if name in steps()}

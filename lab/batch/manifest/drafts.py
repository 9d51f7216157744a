"""Drafts: tasks before their recipes are validated and their inputs found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.batch.manifest.keys import SIZE, StepKeys, at
from lab.batch.step import Step


@dataclass(slots=True, kw_only=True)
class Draft:
    """What becomes a task.

    keys: what is said of it beside its recipe. values: of its recipe. said, defaults: where they were said. prompt,
    seed: its own, or else those of what it follows. template: the prompt before its choices were drawn. index: its
    number, or that of the job it follows. parent: the draft whose output it takes.
    """

    id: str
    place: str
    step: Step
    keys: StepKeys
    said: Mapping[str, Any]
    defaults: Mapping[str, Any]
    values: dict[str, Any]
    index: str
    tags: tuple[str, ...]
    priority: int
    prompt: Any = None
    seed: Any = None
    template: str | None = None
    parent: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """What its name is made of."""
        return self.prompt if isinstance(self.prompt, str) else self.step.name

    def place_of(self, key: str) -> str:
        """Where a value of its recipe was said, or is missing."""
        for said in (key, SIZE) if key in ("width", "height") else (key,):
            if said in self.said:
                return at(self.place, said)
            if said in self.defaults:
                return at("defaults", said)
        return at(self.place, key)

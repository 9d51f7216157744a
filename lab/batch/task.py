"""A task: one thing to make, as the manifest says it and the ledger keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """One step of one job.

    id: its name, which no other task of a manifest has: that of its job, or "job/step" for what follows in a chain.
    step: a name of `lab.batch.steps.steps()`. recipe: values of that step's recipe, validated and resolved; keys that
    `inputs` fill are None. inputs: keys of the recipe -> ids of the tasks whose output each takes.
    output: path below the folder of results, with forward slashes. template: the prompt as the manifest has it, where
    choices in it were drawn. priority: the higher the sooner. place: where in the manifest it stands, for errors.
    """

    id: str
    step: str
    recipe: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    output: str = ""
    template: str | None = None
    tags: tuple[str, ...] = ()
    priority: int = 0
    place: str = ""

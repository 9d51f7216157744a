"""What the ledger keeps of a task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.batch.ledger.states import State

Files = Mapping[str, tuple[str, int, int]]  # path below the batch's folder -> sha256, size, changed at (nanoseconds)


@dataclass(frozen=True)
class Entry:
    """What a manifest asks for. recipe: what differs from the step's defaults. inputs: keys of the recipe -> ids.
    key: of its content (`lab.batch.content`). affinity: "model|...": tasks of equal affinity may be sampled together,
    and those of one model do best one after the other.
    """

    id: str
    step: str
    recipe: Mapping[str, Any]
    inputs: Mapping[str, str]
    output: str
    key: str
    affinity: str
    template: str | None = None
    tags: Sequence[str] = ()
    priority: int = 0


@dataclass(frozen=True)
class Row:
    """A task as the ledger has it. inputs: keys of the recipe -> ids of tasks of its manifest. token: of its lease.
    files: all that it has published, or is about to. heard: when its worker was last (`time.time`), changed: when its
    state was. share: how much of it is done, 0 to 1.
    """

    number: int
    manifest: str
    id: str
    step: str
    recipe: dict[str, Any]
    inputs: dict[str, str]
    output: str
    template: str | None
    tags: tuple[str, ...]
    priority: int
    affinity: str
    key: str
    state: State
    attempts: int
    token: int | None
    worker: str | None
    heard: float | None
    share: float | None
    error: str | None
    files: dict[str, tuple[str, int, int]]
    seconds: float | None
    scores: dict[str, float]
    changed: float


COLUMNS = ", ".join(Row.__dataclass_fields__)
EMPTY: dict[str, Any] = {"recipe": {}, "inputs": {}, "tags": [], "files": {}, "scores": {}}  # columns of JSON
NOTHING = (None, "{}", "[]")  # what most of them hold: not worth parsing


def as_row(values: Mapping[str, Any]) -> Row:
    """A row of the table."""
    read = {name: empty if values[name] in NOTHING else json.loads(values[name]) for name, empty in EMPTY.items()}
    files = {path: tuple(facts) for path, facts in read["files"].items()}
    return Row(**{**values, **read, "tags": tuple(read["tags"]), "files": files, "state": State(values["state"])})


def as_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the table takes them."""
    return {name: as_json(value) if name in EMPTY and value is not None else value for name, value in values.items()}


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

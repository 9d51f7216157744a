"""A manifest's tasks into the ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from lab.batch.ledger.ledger import Ledger
from lab.batch.ledger.rows import Entry, as_columns
from lab.batch.ledger.states import ENDED, State
from lab.batch.ledger.turns import turns_of
from shared.errors import InputError

AT_ONCE = 2_000  # rows of one transaction


@dataclass
class Enqueued:
    """How many of a manifest's tasks were new; known; known, and are to be made otherwise now; and how many it had
    before and has no more, which were taken out.
    """

    new: int = 0
    known: int = 0
    changed: int = 0
    dropped: int = 0


def enqueue(ledger: Ledger, manifest: str, entries: Sequence[Entry], *, now: float) -> Enqueued:
    """New tasks are queued, those of before stay as they are unless their content or output has changed, and those that
    the manifest has no more are cancelled.

    Cut short, the same call does the rest. Raises InputError where an output is that of another manifest.
    """
    counts = Enqueued()
    sql = "SELECT id, number, key, output, state FROM tasks WHERE manifest = ?"
    had = {row["id"]: row for row in ledger.base.execute(sql, (manifest,))}
    numbers = {id: row["number"] for id, row in had.items()}
    first = min(numbers.values()) if numbers else ledger.following
    turns = turns_of(((entry.priority, entry.affinity) for entry in entries), first)
    for start in range(0, len(entries), AT_ONCE):
        with ledger.transaction():
            for entry, turn in zip(entries[start : start + AT_ONCE], turns, strict=False):
                try:
                    numbers[entry.id] = _take_up(ledger, manifest, entry, turn, had.pop(entry.id, None), counts, now)
                except sqlite3.IntegrityError as error:
                    raise _taken(ledger, manifest, entry) from error
    with ledger.transaction():
        pairs = ((numbers[entry.id], numbers[other]) for entry in entries for other in entry.inputs.values())
        ledger.base.executemany("INSERT OR IGNORE INTO needs VALUES (?, ?)", pairs)
        for row in had.values():
            if State(row["state"]) not in ENDED:
                ledger.move(row["number"], State.CANCELLED, now=now, error="the manifest has it no more")
                counts.dropped += 1
        ledger.settle(now)
    ledger.fold()
    return counts


def _take_up(
    ledger: Ledger, manifest: str, entry: Entry, turn: dict[str, int], had: sqlite3.Row | None, counts: Enqueued,
    now: float,
) -> int:  # fmt: skip
    """Its number."""
    state = State.BLOCKED if entry.inputs else State.QUEUED
    told = {"template": entry.template, "tags": list(entry.tags), "priority": entry.priority, **turn}
    made = {"step": entry.step, "recipe": entry.recipe, "inputs": entry.inputs, "output": entry.output,
            "affinity": entry.affinity, "key": entry.key}  # fmt: skip
    if had is None:
        counts.new += 1
        row = as_columns({"manifest": manifest, "id": entry.id, "state": state, "changed": now, **told, **made})
        sql = f"INSERT INTO tasks ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
        return int(ledger.base.execute(sql, tuple(row.values())).lastrowid or 0)
    number = int(had["number"])
    fresh = {"attempts": 0, "error": None, "files": None, "seconds": None, "scores": None}
    same = (had["key"], had["output"]) == (entry.key, entry.output)
    counts.known += same
    counts.changed += not same
    changes = told if same else {**told, **made, **fresh}
    if not same:
        ledger.base.execute("DELETE FROM needs WHERE task = ?", (number,))
    if not same and State(had["state"]) is not state:
        ledger.move(number, state, now=now, **changes)
    else:
        ledger.change(number, **changes)
    return number


def _taken(ledger: Ledger, manifest: str, entry: Entry) -> InputError:
    sql = "SELECT id, manifest FROM tasks WHERE output = ?"
    owner = ledger.base.execute(sql, (entry.output,)).fetchone()
    where = "" if owner["manifest"] == manifest else f" of {owner['manifest']}"
    return InputError(
        f"output {entry.output} of {entry.id}", expected="a name of its own", got=f"that of {owner['id']}{where}",
        hint="Name it otherwise (`name`, `output`), or use another --out",
    )  # fmt: skip

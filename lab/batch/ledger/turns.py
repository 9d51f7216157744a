"""In which order tasks are leased that are ready.

By priority; then by groups, the first of which is that whose first task comes first; then as the manifest has them. A
group: tasks of one manifest with equal priority and affinity, which a worker that stays warm does one after the other.

place: of a task, in the order of all manifests. What is added to a manifest goes before the tasks of later ones.
turn: the place of the first task of its group. A manifest that is taken up again gives its tasks new ones.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable, Iterable, Iterator
from itertools import groupby

SPAN = 2**32  # places of a manifest
TURNS = ("turn INTEGER NOT NULL DEFAULT 0", "place INTEGER NOT NULL DEFAULT 0")  # columns of a task


def turns_of(groups: Iterable[Hashable], first: int) -> Iterator[dict[str, int]]:
    """Columns of each task of a manifest. groups: which each belongs to. first: number of the manifest's first task."""
    turns: dict[Hashable, int] = {}
    for place, group in enumerate(groups, first * SPAN):
        yield {"turn": turns.setdefault(group, place), "place": place}


def upgrade(base: sqlite3.Connection) -> None:
    """A ledger of version 1 gets them, inside a transaction, by the order in which its tasks came."""
    for column in TURNS:
        base.execute(f"ALTER TABLE tasks ADD COLUMN {column}")
    base.execute("DROP INDEX tasks_ready")
    tasks = base.execute("SELECT manifest, number, priority, affinity FROM tasks ORDER BY manifest, number").fetchall()
    for _, group in groupby(tasks, lambda task: task["manifest"]):
        own = list(group)
        turns = turns_of([(task["priority"], task["affinity"]) for task in own], own[0]["number"])
        numbered = ({**turn, "number": task["number"]} for turn, task in zip(turns, own, strict=True))
        base.executemany("UPDATE tasks SET turn = :turn, place = :place WHERE number = :number", numbered)
    base.execute("UPDATE meta SET value = 2 WHERE name = 'format'")

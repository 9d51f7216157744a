"""The ledger as anybody may read it, also while a head writes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lab.batch.ledger.rows import COLUMNS, Row, as_row
from lab.batch.ledger.states import LOST, State
from shared.errors import InputError, one_line
from shared.recipe import did_you_mean

FORMAT = 2  # 1: had neither turn nor place
NEAR = 10_000  # ids among which the nearest is looked for

R = TypeVar("R", bound="Reader")


@dataclass
class Reader:
    """Open with `Reader.open`."""

    path: Path
    base: sqlite3.Connection = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> Reader:
        """Raises InputError for no ledger, one that is damaged, and one of a newer version."""
        if not path.is_file():
            raise _none(path)
        return cls._opened(path, "ro")

    @classmethod
    def _opened(cls: type[R], path: Path, mode: str) -> R:
        try:
            uri = f"{path.resolve().as_uri()}?mode={mode}"
            base = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
            try:
                base.row_factory = sqlite3.Row
                reader = cls(path, base)
                reader._prepare()
                reader._check_format()
            except BaseException:
                base.close()
                raise
            return reader
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"ledger {path}", expected="a whole one", got=one_line(str(error)),
                hint=f"Move {path.name} away, and run the manifest again: finished files are taken over",
            ) from error  # fmt: skip

    def _prepare(self) -> None:
        """What is to be done before the first question. Raises InputError for a file that its head has just made."""
        if self._value("SELECT 1 FROM sqlite_master") is None:
            raise _none(self.path)

    def _check_format(self) -> None:
        found = self._value("SELECT value FROM meta WHERE name = 'format'")
        if found is None or found > FORMAT:
            raise InputError(
                f"ledger {self.path}", expected=f"one of version {FORMAT} at most",
                got="another file" if found is None else f"version {found}",
                hint="Use the Kinoform that made it, or a newer one",
            )  # fmt: skip

    def close(self) -> None:
        self.base.close()

    @property
    def paused(self) -> bool:
        return bool(self._value("SELECT value FROM meta WHERE name = 'paused'"))

    @property
    def following(self) -> int:
        """The number of the next task that comes."""
        return int(self._value("SELECT coalesce(max(number), 0) + 1 FROM tasks"))

    def counts(self) -> dict[State, int]:
        """How many tasks are in each state."""
        found = dict(self._all("SELECT state, count(*) FROM tasks GROUP BY state"))
        return {state: found.get(state.value, 0) for state in State}

    def steps(self, *states: State) -> set[str]:
        """What tasks in some states are."""
        return {
            step
            for (step,) in self._all(
                f"SELECT DISTINCT step FROM tasks WHERE state IN ({_marks(states)})", *map(str, states)
            )
        }

    def row(self, number: int) -> Row:
        (found,) = self.rows([number])
        return found

    def rows(self, numbers: Iterable[int]) -> list[Row]:
        """Tasks by their numbers, in this order."""
        sql = f"SELECT {COLUMNS} FROM tasks WHERE number = ?"
        return [as_row(dict(self.base.execute(sql, (number,)).fetchone())) for number in numbers]

    def each(self, *states: State, last: int | None = None) -> Iterator[Row]:
        """Tasks in order; of some states alone, where any are given; the last so many alone."""
        where = f"WHERE state IN ({_marks(states)})" if states else ""
        newest = "" if last is None else f"ORDER BY number DESC LIMIT {last}"
        sql = f"SELECT * FROM (SELECT {COLUMNS} FROM tasks {where} {newest}) ORDER BY number"
        with closing(self.base.execute(sql, tuple(map(str, states)))) as cursor:
            for found in cursor:
                yield as_row(dict(found))

    def output(self, manifest: str, id: str) -> str:
        """Where the result of a task of a manifest goes."""
        return str(self._value("SELECT output FROM tasks WHERE manifest = ? AND id = ?", manifest, id))

    def find(self, names: Sequence[str], *states: State) -> list[int]:
        """Numbers of the tasks of these ids, with all that follows in their chains, or of tags written as `tag:NAME`;
        of all where no name is given. Raises InputError for a name that nothing has.
        """
        which = f"state IN ({_marks(states)})" if states else "1"
        chosen = tuple(map(str, states))
        if not names:
            return [row[0] for row in self._all(f"SELECT number FROM tasks WHERE {which} ORDER BY number", *chosen)]
        found: dict[int, None] = {}
        for name in names:
            if name.startswith("tag:"):
                where: str = "EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)"
                values: tuple[object, ...] = (name[4:],)
            else:
                where, values = "(id = ? OR substr(id, 1, ?) = ?)", (name, len(name) + 1, f"{name}/")
            if self._value(f"SELECT 1 FROM tasks WHERE {where}", *values) is None:
                known = [row[0] for row in self._all("SELECT id FROM tasks LIMIT ?", NEAR)]
                raise InputError(
                    "task", expected="the id of one, or tag:NAME", got=name, hint=did_you_mean(name, known)
                )
            rows = self._all(f"SELECT number FROM tasks WHERE {where} AND {which} ORDER BY number", *values, *chosen)
            found |= dict.fromkeys(row[0] for row in rows)
        return list(found)

    def waits_for(self, number: int) -> Row | None:
        """The first lost task that a blocked one waits for, at any distance."""
        sql = f"""WITH RECURSIVE above (number) AS (
                SELECT needed FROM needs WHERE task = ?
                UNION SELECT needed FROM needs JOIN above ON needs.task = above.number)
            SELECT number FROM tasks WHERE number IN above AND state IN ({_marks(LOST)}) ORDER BY number"""
        found = self._value(sql, number, *map(str, LOST))
        return None if found is None else self.row(found)

    def why(self, row: Row) -> str | None:
        """Why a task is not done: its error, or that of what it waits for."""
        above = self.waits_for(row.number) if row.state is State.BLOCKED else None
        if above is None:
            return row.error
        return f"waits for {above.id}, which is {above.state.value}{f': {above.error}' if above.error else ''}"

    def _value(self, sql: str, *values: object) -> Any:
        """The first value of the first row, or None."""
        found = self.base.execute(sql, values).fetchone()
        return None if found is None else found[0]

    def _all(self, sql: str, *values: object) -> list[Any]:
        return [tuple(row) for row in self.base.execute(sql, values)]


def _none(path: Path) -> InputError:
    return InputError(f"batch {path.parent}", expected="a folder that `kinoform batch run` made", got="no ledger")


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))

"""The ledger: one SQLite file that says what there is to do and what is done. The head of a batch alone writes it.

Every change of state goes through `Ledger.move`, which refuses a step that `states.TRANSITIONS` does not know, and a
worker whose lease is over: leases have tokens, which count up (fencing tokens); a report of an older one is void.
A kill costs at most the task at hand: its file is published before it is recorded as done, and its bytes are recorded,
as intended, before it is published (`Ledger.intend`), so that the next head can tell what lies there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.batch.ledger.reader import FORMAT, Reader
from lab.batch.ledger.rows import Files, Row, as_columns
from lab.batch.ledger.states import LOST, TRANSITIONS, State
from lab.batch.ledger.turns import TURNS, upgrade
from shared.errors import KinoformError

ATTEMPTS = 3  # that fail by a task's own fault, until it is poisoned
WAL_BYTES = 16 * 2**20  # that stay beside the ledger at most, between two transactions
TABLES = f"""
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER PRIMARY KEY,
    manifest TEXT NOT NULL, id TEXT NOT NULL, step TEXT NOT NULL, recipe TEXT NOT NULL, inputs TEXT NOT NULL,
    output TEXT NOT NULL UNIQUE, template TEXT, tags TEXT NOT NULL, priority INTEGER NOT NULL,
    affinity TEXT NOT NULL, key TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, token INTEGER, worker TEXT, heard REAL, share REAL,
    error TEXT, files TEXT, seconds REAL, scores TEXT, changed REAL NOT NULL,
    {TURNS[0]}, {TURNS[1]},
    UNIQUE (manifest, id)
);
CREATE TABLE IF NOT EXISTS needs (task INTEGER, needed INTEGER, PRIMARY KEY (task, needed)) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('format', {FORMAT}), ('token', 0), ('paused', 0);
"""
MODEL = "substr(affinity, 1, instr(affinity, '|'))"  # of a task
# `tasks_ready` has tasks in the order in which they are leased, the others those of one recipe or model. SQLite finds
# them by itself, where a question has the same terms.
INDEXES = f"""
CREATE INDEX IF NOT EXISTS tasks_ready ON tasks (state, priority DESC, turn, place);
CREATE INDEX IF NOT EXISTS tasks_alike ON tasks (state, priority, affinity, turn, place);
CREATE INDEX IF NOT EXISTS tasks_model ON tasks (state, priority, {MODEL}, turn, place);
CREATE INDEX IF NOT EXISTS tasks_key ON tasks (key, state);
CREATE INDEX IF NOT EXISTS needs_needed ON needs (needed);
"""
OVER: dict[str, Any] = {"token": None, "worker": None, "heard": None, "share": None}  # what only a running task has
# Queued tasks whose content nobody has made or is making.
READY = """SELECT number, key, step, priority, affinity FROM tasks AS mine WHERE state = 'queued' AND NOT EXISTS
    (SELECT 1 FROM tasks AS other WHERE other.key = mine.key AND other.state IN ('running', 'done'))"""
_OPEN = """(SELECT 1 FROM needs JOIN tasks AS other ON other.number = needs.needed
    WHERE needs.task = mine.number AND other.state != 'done')"""
UNMET = f"SELECT number, 0 FROM tasks AS mine WHERE EXISTS {_OPEN}"  # tasks that wait for one that is not done
MET = f"SELECT number, 0 FROM tasks AS mine WHERE NOT EXISTS {_OPEN}"
NEXT = "ORDER BY priority DESC, turn, place, number LIMIT ?"


@dataclass
class Ledger(Reader):
    """Every method is one transaction. `now`: seconds as `time.time` has them, for people to read: nothing is decided
    by it, so that a clock which is set does no harm."""

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Makes the file where there is none. Raises InputError for one that is damaged or of a newer version."""
        return cls._opened(path, "rwc")

    def _prepare(self) -> None:
        self.base.execute("PRAGMA journal_mode = WAL")
        self.base.execute("PRAGMA synchronous = FULL")
        self.base.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        damage = self.base.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)
        if self._value("SELECT 1 FROM sqlite_master") is not None:
            self._check_format()
        with self.transaction():
            self._run(TABLES)
            if self._value("SELECT value FROM meta WHERE name = 'format'") < FORMAT:
                upgrade(self.base)
            self._run(INDEXES)

    def _run(self, statements: str) -> None:
        for statement in statements.split(";"):
            self.base.execute(statement)

    def close(self) -> None:
        """What was written ahead goes into the file, so that none is left beside it."""
        self.fold()
        self.base.close()

    def fold(self) -> None:
        """Take what was written ahead into the file, where no reader holds it."""
        with suppress(sqlite3.OperationalError):
            self.base.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def lease(self, worker: str, most: Mapping[str, int], *, now: float, like: str = "") -> list[Row]:
        """Tasks for a worker, under one new token: of the most urgent one that is like what the worker did last, or
        else the first (`lab.batch.ledger.turns`); and others that may be sampled together with it.

        most: how many at once, by step. like: the affinity of what it did last. Empty where nothing is ready, or all is
        paused.
        """
        with self.transaction():
            first = None if self.paused else self._next(like)
            if first is None:
                return []
            token = (self._value("SELECT value FROM meta WHERE name = 'token'") or 0) + 1
            self.base.execute("UPDATE meta SET value = ? WHERE name = 'token'", (token,))
            together: dict[str, int] = {first["key"]: first["number"]}
            count = most.get(first["step"], 1)
            alike = (first["priority"], first["affinity"], 4 * count)
            for row in (
                self.base.execute(f"{READY} AND priority = ? AND affinity = ? {NEXT}", alike) if count > 1 else ()
            ):
                if len(together) < count:
                    together.setdefault(row["key"], row["number"])  # of equal ones the first alone is made
            for number in together.values():
                self.move(number, State.RUNNING, now=now, token=token, worker=worker, heard=now, files=None)
            return self.rows(together.values())

    def _next(self, like: str) -> sqlite3.Row | None:
        first: sqlite3.Row | None = self.base.execute(f"{READY} {NEXT}", (1,)).fetchone()
        if first is None or not like or first["affinity"] == like:
            return first
        model = like.partition("|")[0]
        for column, wanted in (("affinity", like), (MODEL, f"{model}|")):
            sql = f"{READY} AND priority = ? AND {column} = ? {NEXT}"
            found: sqlite3.Row | None = self.base.execute(sql, (first["priority"], wanted, 1)).fetchone()
            if found is not None:
                return found
        return first

    def twins(self) -> list[tuple[Row, Row]]:
        """Queued tasks whose content another one has made, each with that one."""
        sql = """SELECT mine.number, min(other.number) FROM tasks AS mine JOIN tasks AS other ON other.key = mine.key
            AND other.state = 'done' WHERE mine.state = 'queued' GROUP BY mine.number"""
        return [(self.row(mine), self.row(other)) for mine, other in self._all(sql)]

    def renew(self, token: int, *, now: float, shares: Mapping[int, float]) -> None:
        """A worker is alive. shares: of its tasks that are done, by their numbers."""
        with self.transaction():
            self.base.execute("UPDATE tasks SET heard = ? WHERE token = ? AND state = 'running'", (now, token))
            for number, share in shares.items():
                self.base.execute("UPDATE tasks SET share = ? WHERE number = ? AND token = ?", (share, number, token))

    def intend(self, number: int, token: int, files: Files, **facts: Any) -> bool:
        """A task's files are made, and about to be published. False where its lease is over: they are to go."""
        with self.transaction():
            if not self._holds(number, token):
                return False
            self.change(number, files=files, **facts)
            return True

    def finish(self, number: int, token: int, *, now: float) -> bool:
        """A task's files are published as they were intended. False where its lease is over."""
        with self.transaction():
            return self.move(number, State.DONE, now=now, token=token, error=None)

    def adopt(self, number: int, files: Files, *, now: float, **facts: Any) -> None:
        """A queued task's file was there before, or was taken over from a twin."""
        with self.transaction():
            self.move(number, State.DONE, now=now, files=files, error=None, **facts)

    def fail(self, number: int, token: int, error: str, *, now: float, for_good: bool = False) -> State | None:
        """A task has failed: its state now, or None where its lease was over. for_good: because its input is wrong."""
        with self.transaction():
            if not self._holds(number, token):
                return None
            attempts = self.row(number).attempts + 1
            to = State.FAILED if for_good else State.POISONED if attempts >= ATTEMPTS else State.QUEUED
            self.move(number, to, now=now, token=token, attempts=attempts, error=error, files=None)
            return to

    def give_back(self, number: int, token: int, *, now: float) -> bool:
        """A worker was taken away: its task is queued again, and is not charged. False where its lease was over."""
        with self.transaction():
            return self._holds(number, token) and self.move(number, State.QUEUED, now=now, token=token, files=None)

    def cancel(self, numbers: Iterable[int], *, now: float) -> list[Row]:
        """Take tasks out; those that have ended stay. Returns them as they were."""
        with self.transaction():
            rows = [row for row in self.rows(numbers) if (row.state, State.CANCELLED) in TRANSITIONS]
            for row in rows:
                self.move(row.number, State.CANCELLED, now=now)
            return rows

    def retry(self, numbers: Iterable[int], *, now: float) -> list[Row]:
        """Queue tasks again that failed, were poisoned or cancelled. Returns them as they were."""
        with self.transaction():
            rows = [row for row in self.rows(numbers) if row.state in LOST]
            for row in rows:
                self.move(row.number, State.QUEUED, now=now, attempts=0, error=None, files=None)
            return rows

    def again(self, number: int, why: str, *, now: float) -> None:
        """A done task's file is gone or changed: it is to be made again."""
        with self.transaction():
            self.move(number, State.QUEUED, now=now, files=None, error=why)
            self.settle(now)

    def pause(self, paused: bool) -> None:
        """While paused no task is leased; those under way go on."""
        with self.transaction():
            self.base.execute("UPDATE meta SET value = ? WHERE name = 'paused'", (int(paused),))

    def move(self, number: int, to: State, *, now: float, token: int | None = None, **columns: Any) -> bool:
        """The one place where a state changes, inside a transaction. What is queued before all it waits for is done is
        blocked, and what waits for a task that gets done is queued.

        token: of the lease under which it is asked for. False where that is over. columns: what changes besides.
        Raises KinoformError for a step that there is not.
        """
        had = self.base.execute("SELECT id, state FROM tasks WHERE number = ?", (number,)).fetchone()
        state = State(had["state"])
        if to is State.QUEUED and self._value(f"{UNMET} AND mine.number = ?", number) is not None:
            to = State.BLOCKED
        if to is State.RUNNING:
            columns["token"] = token
        elif token is not None and not self._holds(number, token):
            return False
        else:
            columns = {**OVER, **columns}
        if (state, to) not in TRANSITIONS:
            raise KinoformError(f"task {had['id']}", expected=f"a state that it can be {to} from", got=state.value)
        self.change(number, state=to.value, changed=now, **columns)
        if to is State.DONE:
            self._free(number, now)
        return True

    def settle(self, now: float) -> None:
        """After changes of many tasks: queued ones wait for what is not done, and blocked ones do not for what is."""
        for number, _ in self._all(f"{UNMET} AND mine.state = 'queued'"):
            self.move(number, State.BLOCKED, now=now)
        for number, _ in self._all(f"{MET} AND mine.state = 'blocked'"):
            self.move(number, State.QUEUED, now=now)

    def _free(self, number: int, now: float) -> None:
        """Queue what waited for this task, and for nothing else."""
        waiting = "AND mine.state = 'blocked' AND mine.number IN (SELECT task FROM needs WHERE needed = ?)"
        for child, _ in self._all(f"{MET} {waiting}", number):
            self.move(child, State.QUEUED, now=now)

    def _holds(self, number: int, token: int) -> bool:
        sql = "SELECT 1 FROM tasks WHERE number = ? AND token = ? AND state = 'running'"
        return self._value(sql, number, token) is not None

    def change(self, number: int, **columns: Any) -> None:
        """Change what is known of a task, inside a transaction; not its state."""
        sets = ", ".join(f"{name} = ?" for name in columns)
        self.base.execute(f"UPDATE tasks SET {sets} WHERE number = ?", (*as_columns(columns).values(), number))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing, whenever the process ends."""
        self.base.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.base.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self.base.execute("ROLLBACK")
            raise

"""The order in which tasks are leased, beside a plain sort of the manifests; and ledgers that knew no such order."""

import random
import sqlite3

import pytest

from lab.batch.ledger.enqueue import enqueue
from lab.batch.ledger.ledger import INDEXES, Ledger
from lab.batch.ledger.reader import FORMAT, Reader
from lab.batch.ledger.rows import Entry
from shared.errors import InputError

VERSION_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY,
    manifest TEXT NOT NULL, id TEXT NOT NULL, step TEXT NOT NULL, recipe TEXT NOT NULL, inputs TEXT NOT NULL,
    output TEXT NOT NULL UNIQUE, template TEXT, tags TEXT NOT NULL, priority INTEGER NOT NULL,
    affinity TEXT NOT NULL, key TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, token INTEGER, worker TEXT, heard REAL, share REAL,
    error TEXT, files TEXT, seconds REAL, scores TEXT, changed REAL NOT NULL,
    UNIQUE (manifest, id)
);
CREATE INDEX tasks_ready ON tasks (state, priority DESC, affinity, number);
CREATE INDEX tasks_key ON tasks (key, state);
CREATE TABLE needs (task INTEGER, needed INTEGER, PRIMARY KEY (task, needed)) WITHOUT ROWID;
CREATE INDEX needs_needed ON needs (needed);
INSERT INTO meta VALUES ('format', 1), ('token', 0), ('paused', 0);
"""


def entry(id, affinity, priority=0, manifest="m"):
    return Entry(id, "image", {}, {}, f"{manifest}/{id}.png", f"{manifest} {id}", affinity, priority=priority)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger.open(tmp_path / "batch.sqlite")
    opened.base.execute("PRAGMA synchronous = OFF")  # nothing here loses power
    yield opened
    opened.close()


def drawn(draw, manifest, count):
    return [
        entry(f"t{n}", f"{draw.choice('zam')}|image|{draw.randrange(3)}", draw.choice((0, 0, 5)), manifest)
        for n in range(count)
    ]


def plain(manifests):
    """Outputs in order. manifests: lists of entries, in the order in which they were first taken up."""
    keys = {}
    for which, entries in enumerate(manifests):
        for place, own in enumerate(entries):
            groups = [(other.priority, other.affinity) for other in entries]
            first = groups.index((own.priority, own.affinity))
            keys[own.output] = (-own.priority, which, first, place)
    return sorted(keys, key=keys.get)


def leased(ledger, count=1, like=""):
    return [row.output for row in ledger.lease("worker", {"image": count}, now=2, like=like)]


def until_none(ledger, count=1):
    return list(iter(lambda: leased(ledger, count), []))


@pytest.mark.parametrize("seed", range(6))
def test_tasks_are_leased_in_the_order_of_a_plain_sort(ledger, seed, monkeypatch):
    """Also when a manifest comes again with tasks in another order, fewer and more, other recipes and priorities."""
    monkeypatch.setattr("lab.batch.ledger.enqueue.AT_ONCE", 7)
    draw = random.Random(seed)
    first, second = drawn(draw, "first", 30), drawn(draw, "second", 20)
    enqueue(ledger, "first", first, now=1)
    enqueue(ledger, "second", second, now=1)
    begun = [output for _ in range(draw.randrange(10)) for output in leased(ledger)]
    assert begun == plain([first, second])[: len(begun)]
    edited = drawn(draw, "first", 40)[draw.randrange(5) :]
    draw.shuffle(edited)
    kept = {each.output: each for each in first}
    edited = [kept[each.output] if each.output in {*begun} & kept.keys() else each for each in edited]
    enqueue(ledger, "first", edited, now=2)
    wanted = [output for output in plain([edited, second]) if output not in begun]
    assert [output for (output,) in until_none(ledger)] == wanted


@pytest.mark.parametrize("seed", range(3))
def test_together_are_leased_the_next_of_a_group(ledger, seed):
    entries = drawn(random.Random(seed), "m", 40)
    enqueue(ledger, "m", entries, now=1)
    order = plain([entries])
    groups = {each.output: (each.priority, each.affinity) for each in entries}
    for together in until_none(ledger, 3):
        alike = [output for output in order if groups[output] == groups[order[0]]]
        assert together == alike[:3]
        order = [output for output in order if output not in together]
    assert order == []


@pytest.mark.parametrize("seed", range(3))
def test_a_warm_worker_gets_the_first_of_its_recipe_or_else_of_its_model(ledger, seed):
    draw = random.Random(seed)
    entries = drawn(draw, "m", 40)
    enqueue(ledger, "m", entries, now=1)
    order, like = plain([entries]), ""
    known = {each.output: each for each in entries}
    for _ in range(len(entries)):
        urgent = [output for output in order if known[output].priority == known[order[0]].priority]
        same = [output for output in urgent if known[output].affinity == like]
        model = [output for output in urgent if known[output].affinity.split("|")[0] == like.split("|")[0]]
        (output,) = leased(ledger, like=like)
        assert output == (same or model or urgent)[0]
        order.remove(output)
        like = draw.choice((known[output].affinity, "none|image|0"))


def test_no_lease_looks_at_more_rows_than_it_takes(ledger):
    """SQLite has an index for each of its questions, and sorts nothing."""
    enqueue(ledger, "m", [entry("a", "m|image|1"), entry("b", "n|image|1"), entry("c", "m|image|2")], now=1)
    asked = []
    ledger.base.set_trace_callback(asked.append)
    leased(ledger, 4)
    leased(ledger, like="m|image|1")
    leased(ledger, like="none|image|1")
    ledger.base.set_trace_callback(None)
    questions = [sql for sql in asked if "ORDER BY priority" in sql]
    assert len(questions) == 2 + 3 + 3
    used = set()
    for sql in questions:
        steps = [row["detail"] for row in ledger.base.execute(f"EXPLAIN QUERY PLAN {sql}")]
        assert not [step for step in steps if "TEMP B-TREE" in step or step.startswith("SCAN")], steps
        used.add(next(step.split("INDEX ")[1].split()[0] for step in steps if step.startswith("SEARCH mine")))
    assert used <= {"tasks_ready", "tasks_alike", "tasks_model"}
    assert {"tasks_ready", "tasks_alike", "tasks_model"} <= used


@pytest.fixture
def version_1(tmp_path):
    """A ledger of version 1 with tasks of two manifests."""
    path = tmp_path / "old.sqlite"
    entries = [entry("late", "z|image|1"), entry("first", "m|image|1", 5), entry("next", "a|image|1", 5),
               entry("last", "m|image|1", 5)]  # fmt: skip
    base = sqlite3.connect(path)
    base.executescript(VERSION_1)
    for manifest in ("b", "a"):
        for each in entries:
            output, key = f"{manifest}/{each.id}.png", f"{manifest} {each.id}"
            values = (manifest, each.id, output, each.priority, each.affinity, key)
            base.execute(
                "INSERT INTO tasks (manifest, id, step, recipe, inputs, output, tags, priority, affinity, key, state, "
                "changed) VALUES (?, ?, 'image', '{}', '{}', ?, '[]', ?, ?, ?, 'queued', 1)", values,
            )  # fmt: skip
    base.commit()
    base.close()
    return path


def test_a_ledger_of_version_1_is_read_as_it_is(version_1):
    before = version_1.read_bytes()
    reader = Reader.open(version_1)
    assert [row.id for row in reader.each()] == ["late", "first", "next", "last"] * 2
    reader.close()
    assert version_1.read_bytes() == before


def test_a_head_gives_a_ledger_of_version_1_the_order_of_its_tasks(version_1):
    Ledger.open(version_1).close()
    ledger = Ledger.open(version_1)
    assert ledger._value("SELECT value FROM meta WHERE name = 'format'") == FORMAT
    wanted = ["first", "last", "next"]
    assert [output for (output,) in until_none(ledger)] == [
        *(f"b/{id}.png" for id in wanted), *(f"a/{id}.png" for id in wanted), "b/late.png", "a/late.png"
    ]  # fmt: skip
    ledger.close()


def test_a_head_that_is_interrupted_meanwhile_leaves_version_1(version_1, monkeypatch):
    def stopped(ledger, statements):
        if statements is INDEXES:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Ledger, "_run", stopped)
        Ledger.open(version_1)
    reader = Reader.open(version_1)
    assert "turn" not in [row[1] for row in reader._all("PRAGMA table_info(tasks)")]
    assert reader._value("SELECT value FROM meta WHERE name = 'format'") == 1
    reader.close()


def test_a_newer_ledger_and_another_database_are_left_as_they_are(tmp_path):
    for name, sql in (
        ("newer", "CREATE TABLE meta (name, value); INSERT INTO meta VALUES ('format', 99)"),
        ("other", "CREATE TABLE tasks (title)"),
    ):
        path = tmp_path / f"{name}.sqlite"
        base = sqlite3.connect(path)
        base.executescript(sql)
        before = base.execute("SELECT sql FROM sqlite_master").fetchall()
        base.close()
        with pytest.raises(InputError, match="got version 99" if name == "newer" else "expected a whole one"):
            Ledger.open(path)
        base = sqlite3.connect(path)
        assert base.execute("SELECT sql FROM sqlite_master").fetchall() == before
        base.close()

"""The ledger: every step between states there is and no other, leases that end, and what a manifest changes."""

import itertools
import random
import sqlite3

import pytest

from lab.batch.ledger.enqueue import Enqueued, enqueue
from lab.batch.ledger.ledger import ATTEMPTS, Ledger
from lab.batch.ledger.reader import FORMAT, Reader
from lab.batch.ledger.rows import Entry
from lab.batch.ledger.states import TRANSITIONS, State
from shared.errors import InputError, KinoformError

FILES = {"a.png": ("0" * 64, 5, 7)}


def entry(id, *needs, key=None, output=None, affinity="world|image|x", **rest):
    inputs = {f"input{number}": name for number, name in enumerate(needs)}
    return Entry(id, "image", {"prompt": id}, inputs, output or f"{id}.png", key or f"key of {id}", affinity, **rest)


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger.open(tmp_path / "batch.sqlite")
    opened.base.execute("PRAGMA synchronous = OFF")  # nothing here loses power
    yield opened
    opened.close()


def take_up(ledger, *entries, manifest="m.yaml"):
    return enqueue(ledger, manifest, entries, now=1)


def lease(ledger, count=1, like=""):
    return ledger.lease("worker", {"image": count}, now=2, like=like)


def do(ledger, count=1):
    """Lease and finish so many, one after the other."""
    for _ in range(count):
        (row,) = lease(ledger)
        assert ledger.intend(row.number, row.token, FILES)
        assert ledger.finish(row.number, row.token, now=3)


def states(ledger):
    return {row.id: row.state.value for row in ledger.each()}


@pytest.mark.parametrize(("state", "to"), itertools.product(State, State))
def test_a_step_is_in_the_table_or_refused(ledger, state, to):
    take_up(ledger, entry("a"))
    ledger.base.execute("UPDATE tasks SET state = ?", (state.value,))
    if (state, to) in TRANSITIONS:
        assert ledger.move(1, to, now=2)
        assert ledger.row(1).state is to
        return
    with pytest.raises(KinoformError, match=f"task a: expected a state that it can be {to} from, got {state}"):
        ledger.move(1, to, now=2)
    assert ledger.row(1).state is state


def test_a_task_goes_from_queue_to_done_and_keeps_its_facts(ledger):
    take_up(ledger, entry("a", tags=["night"], template="{a|b}", priority=3))
    (row,) = lease(ledger)
    assert (row.state, row.token, row.worker, row.heard) == (State.RUNNING, 1, "worker", 2)
    ledger.renew(1, now=5, shares={1: 0.5})
    assert (ledger.row(1).share, ledger.row(1).heard) == (0.5, 5)
    assert ledger.intend(1, 1, FILES, seconds=1.5, scores={"clip": 0.25})
    assert ledger.finish(1, 1, now=9)
    done = ledger.row(1)
    assert (done.state, done.token, done.worker, done.share, done.changed) == (State.DONE, None, None, None, 9)
    assert (done.files, done.seconds, done.scores) == (FILES, 1.5, {"clip": 0.25})
    assert (done.recipe, done.tags, done.template, done.priority) == ({"prompt": "a"}, ("night",), "{a|b}", 3)


def test_reports_of_an_older_lease_are_void(ledger):
    take_up(ledger, entry("a"))
    (first,) = lease(ledger)
    assert ledger.give_back(first.number, first.token, now=3)
    (second,) = lease(ledger)
    assert second.token == first.token + 1
    assert not ledger.intend(1, first.token, FILES)
    assert not ledger.finish(1, first.token, now=4)
    assert ledger.fail(1, first.token, "late", now=4) is None
    assert not ledger.give_back(1, first.token, now=4)
    assert ledger.row(1).state is State.RUNNING
    assert ledger.row(1).attempts == 0
    assert ledger.finish(1, second.token, now=5)


def test_so_many_failures_of_its_own_poison_a_task_and_a_worker_taken_away_is_none(ledger):
    take_up(ledger, entry("a"))
    for attempt in range(1, ATTEMPTS + 1):
        for _ in range(5):
            (row,) = lease(ledger)
            ledger.give_back(1, row.token, now=2)
        (row,) = lease(ledger)
        wanted = State.POISONED if attempt == ATTEMPTS else State.QUEUED
        assert ledger.fail(1, row.token, f"broke {attempt}", now=3) is wanted
        assert (ledger.row(1).attempts, ledger.row(1).error) == (attempt, f"broke {attempt}")
    assert lease(ledger) == []
    assert [row.id for row in ledger.retry([1], now=4)] == ["a"]
    assert (ledger.row(1).attempts, ledger.row(1).error) == (0, None)


def test_wrong_input_fails_at_once(ledger):
    take_up(ledger, entry("a"))
    (row,) = lease(ledger)
    assert ledger.fail(1, row.token, "no such picture", now=3, for_good=True) is State.FAILED


def test_a_diamond_runs_from_top_to_bottom(ledger):
    take_up(ledger, entry("top"), entry("left", "top"), entry("right", "top"), entry("bottom", "left", "right"))
    blocked = {"left": "blocked", "right": "blocked", "bottom": "blocked"}
    assert states(ledger) == {"top": "queued", **blocked}
    do(ledger)
    assert states(ledger) == {"top": "done", "left": "queued", "right": "queued", "bottom": "blocked"}
    do(ledger)
    assert states(ledger)["bottom"] == "blocked"
    do(ledger)
    assert states(ledger)["bottom"] == "queued"


def test_what_waits_for_a_lost_task_says_for_which(ledger):
    take_up(ledger, entry("a"), entry("b", "a"), entry("c", "b"), entry("d"))
    (row,) = lease(ledger)
    ledger.fail(row.number, row.token, "no", now=3, for_good=True)
    do(ledger)
    assert states(ledger) == {"a": "failed", "b": "blocked", "c": "blocked", "d": "done"}
    assert lease(ledger) == []
    assert ledger.waits_for(3).id == "a"
    assert ledger.waits_for(4) is None
    ledger.retry(ledger.find([]), now=4)
    do(ledger, 3)
    assert set(states(ledger).values()) == {"done"}


def test_equal_work_is_leased_once_and_the_other_is_its_twin(ledger):
    take_up(ledger, entry("a", key="same"), entry("b", key="same"))
    take_up(ledger, entry("c", key="same", output="other.png"), manifest="n.yaml")
    (row,) = lease(ledger, 4)
    assert row.id == "a"
    assert lease(ledger, 4) == []
    assert ledger.twins() == []
    ledger.finish(row.number, row.token, now=3)
    assert [(mine.id, twin.id) for mine, twin in ledger.twins()] == [("b", "a"), ("c", "a")]
    ledger.adopt(2, FILES, now=4, scores={"clip": 0.5})
    assert (ledger.row(2).state, ledger.row(2).scores) == (State.DONE, {"clip": 0.5})


def test_the_most_urgent_goes_first_and_of_these_what_the_worker_has_loaded(ledger):
    take_up(
        ledger, entry("late", affinity="a|image|1"), entry("a1", affinity="a|image|1", priority=2),
        entry("a2", affinity="a|image|2", priority=2), entry("b1", affinity="b|image|1", priority=2),
        entry("b2", affinity="b|image|2", priority=2),
    )  # fmt: skip
    assert [row.id for row in lease(ledger, like="b|image|2")] == ["b2"]
    assert [row.id for row in lease(ledger, like="b|image|2")] == ["b1"]
    assert [row.id for row in lease(ledger, like="b|image|2")] == ["a1"]
    assert [row.id for row in lease(ledger, like="a|clip|9")] == ["a2"]
    assert [row.id for row in lease(ledger)] == ["late"]


def test_only_what_can_be_sampled_together_is_leased_together(ledger):
    take_up(ledger, *(entry(f"a{i}", affinity="m|image|1") for i in range(5)), entry("b", affinity="m|image|2"))
    rows = lease(ledger, 4)
    assert [row.id for row in rows] == ["a0", "a1", "a2", "a3"]
    assert {row.token for row in rows} == {1}
    assert [row.id for row in lease(ledger, 4)] == ["a4"]
    assert [row.id for row in lease(ledger, 4)] == ["b"]


def test_a_paused_ledger_leases_nothing(ledger):
    take_up(ledger, entry("a"))
    ledger.pause(True)
    assert ledger.paused
    assert lease(ledger) == []
    ledger.pause(False)
    assert len(lease(ledger)) == 1


def test_the_same_manifest_again_changes_nothing(ledger):
    entries = [entry("a"), entry("b", "a"), entry("c")]
    assert take_up(ledger, *entries) == Enqueued(new=3)
    do(ledger)
    before = list(ledger.each())
    assert take_up(ledger, *entries) == Enqueued(known=3)
    assert list(ledger.each()) == before


def test_a_changed_manifest_makes_again_what_has_changed_and_takes_out_what_is_gone(ledger):
    take_up(ledger, entry("a"), entry("b", "a"), entry("c"), entry("d"))
    do(ledger, 4)
    take_up(ledger, entry("a"), entry("b", "a"), entry("c"), entry("d"), entry("e"))
    changed = take_up(ledger, entry("a", key="new"), entry("b", "a", key="new b"), entry("c"))
    assert changed == Enqueued(known=1, changed=2, dropped=1)
    wanted = {"a": "queued", "b": "blocked", "c": "done", "d": "done", "e": "cancelled"}
    assert states(ledger) == wanted
    assert ledger.row(1).files == {}


def test_another_manifest_may_not_write_over_a_result(ledger):
    take_up(ledger, entry("a"))
    with pytest.raises(InputError, match=r"output a\.png of z: expected a name of its own, got that of a of m\.yaml"):
        take_up(ledger, entry("z", output="a.png"), manifest="n.yaml")


def test_a_file_that_is_gone_is_made_again_and_what_was_made_of_it_stays(ledger):
    take_up(ledger, entry("a"), entry("b", "a"))
    do(ledger, 2)
    ledger.again(1, "gone", now=4)
    assert states(ledger) == {"a": "queued", "b": "done"}
    ledger.again(2, "gone", now=4)
    assert states(ledger) == {"a": "queued", "b": "blocked"}


def test_tasks_are_found_by_id_chain_and_tag(ledger):
    take_up(ledger, entry("a", tags=["x"]), entry("a/clip", "a"), entry("ab", tags=["x", "y"]))
    assert ledger.find(["a"]) == [1, 2]
    assert ledger.find(["tag:x"]) == [1, 3]
    assert ledger.find([]) == [1, 2, 3]
    assert ledger.find(["tag:x"], State.BLOCKED) == []
    with pytest.raises(InputError, match=r"got abb. Did you mean ab\?"):
        ledger.find(["abb"])


def test_cancelled_are_those_that_have_not_ended(ledger):
    take_up(ledger, entry("a"), entry("b"), entry("c", "b"))
    do(ledger)
    (row,) = lease(ledger)
    assert [(was.id, was.token) for was in ledger.cancel(ledger.find([]), now=5)] == [("b", row.token), ("c", None)]
    assert states(ledger) == {"a": "done", "b": "cancelled", "c": "cancelled"}
    assert not ledger.finish(row.number, row.token, now=6)


def test_a_ledger_that_is_none_damaged_or_newer_is_refused(tmp_path):
    path = tmp_path / "batch.sqlite"
    with pytest.raises(InputError, match="expected a folder that `kinoform batch run` made, got no ledger"):
        Reader.open(path)
    path.write_bytes(b"no ledger at all, but long enough to be looked at" * 100)
    for kind in (Reader, Ledger):
        with pytest.raises(InputError, match="expected a whole one, got file is not a database"):
            kind.open(path)
    path.unlink()
    Ledger.open(path).close()
    base = sqlite3.connect(path)
    base.execute("UPDATE meta SET value = ? WHERE name = 'format'", (FORMAT + 1,))
    base.commit()
    base.close()
    for kind in (Reader, Ledger):
        with pytest.raises(InputError, match=f"got version {FORMAT + 1}. Use the Kinoform that made it"):
            kind.open(path)


def test_a_page_of_rubbish_in_the_middle_is_noticed(tmp_path):
    ledger = Ledger.open(tmp_path / "batch.sqlite")
    take_up(ledger, *(entry(f"a{i}") for i in range(500)))
    ledger.close()
    path = tmp_path / "batch.sqlite"
    data = bytearray(path.read_bytes())
    data[8192:16384] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"Move batch\.sqlite away"):
        Ledger.open(path)


def test_readers_see_what_is_committed_and_cannot_write(ledger):
    take_up(ledger, entry("a"))
    reader = Reader.open(ledger.path)
    assert states(reader) == {"a": "queued"}
    do(ledger)
    assert states(reader) == {"a": "done"}
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.base.execute("DELETE FROM tasks")
    reader.close()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_in_whatever_order_the_ledger_stays_sound(ledger, seed):
    draw = random.Random(seed)
    entries = [entry(f"t{i}", *(f"t{j}" for j in range(i) if draw.random() < 0.2), key=f"k{i % 17}") for i in range(20)]
    take_up(ledger, *entries)
    leases = []
    for now in range(150):
        choice = draw.choice(("lease", "finish", "finish", "fail", "give back", "cancel", "retry", "again", "manifest"))
        number = draw.randrange(1, 21)
        if choice == "lease":
            leases += [(row.number, row.token) for row in lease(ledger, draw.randrange(1, 4))]
        elif choice == "finish" and leases:
            ledger.finish(*draw.choice(leases), now=now)
        elif choice == "fail" and leases:
            ledger.fail(*draw.choice(leases), "no", now=now, for_good=draw.random() < 0.2)
        elif choice == "give back" and leases:
            ledger.give_back(*draw.choice(leases), now=now)
        elif choice == "cancel" and draw.random() < 0.2:
            ledger.cancel([number], now=now)
        elif choice == "retry":
            ledger.retry([number], now=now)
        elif choice == "again" and ledger.row(number).state is State.DONE:
            ledger.again(number, "gone", now=now)
        elif choice == "manifest":
            take_up(ledger, *entries)
        found = {row.id: row for row in ledger.each()}
        for row in found.values():
            unmet = any(found[name].state is not State.DONE for name in row.inputs.values())
            assert (row.state is State.RUNNING) == (row.token is not None)
            if row.state is State.QUEUED:
                assert not unmet
            if row.state is State.BLOCKED:
                assert unmet
        keys = [row.key for row in found.values() if row.state is State.RUNNING]
        assert len(keys) == len(set(keys))

"""Batches on Ray, with real clusters and processes: the same bytes as on this machine, and nothing left behind."""

import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(__file__))  # tests here share `conftest`
from conftest import nodes

from lab.batch import requests
from lab.batch.ledger.states import State
from lab.batch.place import Place
from tests.lab.batch.pictures import batch, hashes, kill, picture, rows, start, wait_until
from tests.lab.command import is_refusal

WORKER = "lab.batch.executors.worker"


def images(folder, count, **values):
    then = [{"kind": "upscale", "then": [{"kind": "describe"}]}]
    jobs = [{"kind": "image", "prompt": "a red cube", "steps": 2, "count": count, "then": then, **values}]
    (folder / "jobs.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    return "jobs.json"


def enlarged(folder, count):
    """Without a model: a second of work each, and more."""
    sources = [picture(folder / f"in/{n}.png", n, size=128) for n in range(count)]
    jobs = [{"name": f"b{n}", "kind": "upscale", "scale": 16, "source": str(file)} for n, file in enumerate(sources)]
    (folder / "jobs.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    return "jobs.json"


def said(folder):
    return (folder / "said.txt").read_text()


def states(out):
    return {row.state for row in rows(out).values()}


def until(head, true, seconds=100.0):
    """Wait for something to get true while a head is at work."""
    wait_until(lambda: head.poll() is not None or true(), seconds)
    assert head.poll() is None


def running(out):
    return [row for row in rows(out).values() if row.state is State.RUNNING]


def test_bytes_are_those_of_this_machine_though_a_node_is_taken_away(tmp_path):
    made = batch("run", images(tmp_path, 12), "--out", "local", "--exact", "--threads", "1", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    with nodes(1, 1) as cluster:
        lost = next(iter(cluster.worker_nodes))
        at = ("--executor", "ray", "--address", cluster.address)
        head = start("run", "jobs.json", "--out", "far", "--exact", *at, folder=tmp_path)
        try:
            until(head, lambda: len(hashes(tmp_path / "far")) >= 2 and len(running(tmp_path / "far")) == 2)
            cluster.remove_node(lost, allow_graceful=False)
            assert head.wait(120) == 0, said(tmp_path)
        finally:
            kill(head)
    assert len(hashes(tmp_path / "local")) == 36
    assert hashes(tmp_path / "far") == hashes(tmp_path / "local")
    found = rows(tmp_path / "far").values()
    assert {row.attempts for row in found} == {0}
    assert said(tmp_path).count("taken away:") == 1
    assert "raylet" not in said(tmp_path)


def test_a_killed_head_leaves_no_process_of_its_own_cluster(tmp_path, mine):
    head = start("run", enlarged(tmp_path, 3), "--out", "out", "--executor", "ray", folder=tmp_path)
    until(head, lambda: running(tmp_path / "out"))
    until(head, lambda: mine(WORKER))
    assert len(mine()) > 5
    kill(head)
    wait_until(lambda: not mine(), 20)
    again = batch("run", "jobs.json", "--out", "out", "--executor", "ray", "--json", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["counts"]["done"] == 3
    assert not mine()
    assert {row.attempts for row in rows(tmp_path / "out").values()} == {0}


def test_the_first_interrupt_drains_and_the_second_stops(tmp_path, mine):
    """To the whole group, as a terminal has it."""
    path = enlarged(tmp_path, 8)
    group = {"start_new_session": True}
    head = start("run", path, "--out", "out", "--executor", "ray", "--workers", "1", folder=tmp_path, **group)
    until(head, lambda: running(tmp_path / "out"))
    os.killpg(head.pid, signal.SIGINT)
    assert head.wait(60) == 130
    assert states(tmp_path / "out") == {State.DONE, State.QUEUED}
    assert not mine()
    made = len(hashes(tmp_path / "out"))
    head = start("run", path, "--out", "out", "--executor", "ray", "--workers", "1", folder=tmp_path, **group)
    until(head, lambda: running(tmp_path / "out"))
    os.killpg(head.pid, signal.SIGINT)
    until(head, lambda: said(tmp_path).count("stopping: those under way") == 2)
    os.killpg(head.pid, signal.SIGINT)
    stopped = time.monotonic()
    assert head.wait(60) == 130
    assert time.monotonic() - stopped < 15
    assert len(hashes(tmp_path / "out")) == made
    assert not mine()


def test_at_an_address_nothing_but_the_workers_ends_with_the_head(tmp_path, mine):
    """And a worker that is killed costs its task no attempt, a task that is cancelled stops at once."""
    long = {"kind": "image", "name": "long", "prompt": "a red cube", "steps": 1000, "priority": 1}
    enlarged(tmp_path, 4)
    jobs = json.loads((tmp_path / "jobs.json").read_text())["jobs"]
    (tmp_path / "jobs.json").write_text(json.dumps({"version": 1, "jobs": [long, *jobs]}))
    out, place = tmp_path / "out", Place(tmp_path / "out")
    with nodes(2) as cluster:
        command = ("run", "jobs.json", "--out", "out", "--executor", "ray", "--address", cluster.address)
        head = start(*command, "--workers", "1", folder=tmp_path)
        until(head, lambda: any(row.share for row in running(out)))
        (worker,) = mine(WORKER)
        assert [row.id for row in running(out)] == ["long"]
        asked = time.monotonic()
        requests.ask(place, requests.Request("cancel", ("long",)))
        until(head, lambda: running(out))
        assert time.monotonic() - asked < 10  # of a minute and more
        assert mine(WORKER) == [worker]  # which went on
        os.kill(worker, signal.SIGKILL)
        until(head, lambda: "taken away: b" in said(tmp_path))
        until(head, lambda: running(out) and mine(WORKER))
        kill(head)
        wait_until(lambda: not mine(WORKER), 20)
        assert cluster.remaining_processes_alive()
        again = batch(*command, folder=tmp_path)
        assert "1 of 5 tasks were not made" in again.stderr
        assert not mine(WORKER)
        found = rows(out)
        assert [found[name].state for name in ("long", "b0", "b3")] == [State.CANCELLED, State.DONE, State.DONE]
        assert {row.attempts for row in found.values()} == {0}
        refused = batch(*command, "--threads", "3", "--out", "other", folder=tmp_path)
        assert (refused.returncode, refused.stderr.count("a node with 3 cores and 2.0 GiB")) == (2, 1)
        refused = batch(*command[:-1], "127.0.0.1:1", folder=tmp_path)
        assert is_refusal(refused.returncode, refused.stderr, "--address", "expected a Ray cluster")

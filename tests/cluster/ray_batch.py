"""Batches on Ray, with real clusters and processes: the same bytes as on this machine, and nothing left behind."""

import json
import os
import re
import signal
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # tests here share `conftest`
from conftest import nodes

from lab.batch.ledger.states import State
from tests.lab.batch.pictures import alive, batch, hashes, kill, manifest, picture, rows, start, wait_until
from tests.lab.command import is_refusal

WORKER = "lab.batch.executors.worker"
TOKEN = os.environ["RAY_AUTH_TOKEN"]


def images(folder, count, **values):
    then = [{"kind": "upscale", "then": [{"kind": "describe"}]}]
    jobs = [{"kind": "image", "prompt": "a red cube", "steps": 2, "count": count, "then": then, **values}]
    (folder / "jobs.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    return "jobs.json"


def enlarged(folder, count, scale=16):
    """Without a model: a second of work each, and more."""
    jobs = [
        {"name": f"b{n}", "kind": "upscale", "scale": scale, "source": str(picture(folder / f"in/{n}.png", n, size=128))}
        for n in range(count)
    ]
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

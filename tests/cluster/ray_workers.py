"""The executor itself on a real cluster: how soon a cancelled task ends, and which nodes it refuses."""

import os
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # tests here share `conftest`
from conftest import nodes

from lab.batch.executors import ray_executor
from lab.batch.executors.executor import Assignment, Order
from lab.batch.executors.ray_cluster import Needs, reached
from lab.batch.executors.ray_executor import RayExecutor
from shared.errors import KinoformError

STEPS = 1000
IMAGE = {"prompt": "a red cube", "steps": STEPS, "width": 128, "height": 128}


@pytest.fixture(scope="module")
def address():
    with nodes(1) as cluster:
        yield cluster.address


@pytest.fixture
def executor(address, tmp_path):
    shared = tmp_path / "shared"
    shared.write_text("one text for all")
    made = RayExecutor(reached(address), Needs(1, 0, 2**30), tmp_path / "logs", shared)
    yield made
    made.close()


def heard(executor, event, seconds=60.0):
    """The first report of an event."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        executor.free()
        for report in executor.poll(0.1):
            if report.event == event:
                return report
    raise AssertionError(f"nothing {event} in time")


def test_a_cancelled_task_ends_within_a_step(executor, tmp_path):
    while not executor.free():
        executor.poll(0.1)
    executor.give("ray-1", Assignment(7, "image", (Order(1, IMAGE, str(tmp_path / "stage/a.png")),)))
    share = 0.0
    while share == 0.0:
        first, share = time.monotonic(), heard(executor, "alive").shares.get("1", 0.0)
    last = heard(executor, "alive")
    step = (time.monotonic() - first) / ((last.shares["1"] - share) * STEPS)
    executor.cancel(7)
    asked = time.monotonic()
    ended = heard(executor, "ended")
    assert ended.token == 7
    assert time.monotonic() - asked < 2 * step + 1, step
    assert last.shares["1"] < 0.1
    assert executor.free() == ["ray-1"]
    assert not (tmp_path / "stage/a.png").exists()


def test_a_worker_that_is_dropped_is_gone_at_nobodys_charge(executor, tmp_path):
    while not executor.free():
        executor.poll(0.1)
    executor.give("ray-1", Assignment(8, "image", (Order(1, IMAGE, str(tmp_path / "stage/a.png")),)))
    executor.drop(8)
    assert heard(executor, "gone").fault is None
    while not executor.free():
        executor.poll(0.1)


def test_a_node_of_another_version_is_refused(executor, monkeypatch):
    monkeypatch.setattr(ray_executor, "VERSION", "0.0")
    with pytest.raises(KinoformError, match=r"kinoform on .*: expected version 0\.0, as here"):
        heard(executor, "alive")


def test_a_node_that_does_not_share_the_folder_is_refused(executor, tmp_path):
    executor.free()
    executor.shared = tmp_path / "other"
    executor.shared.write_text("another text")
    with pytest.raises(KinoformError, match="must be one that all nodes share"):
        heard(executor, "alive")

"""Clusters of several nodes on this machine, and which processes there are of one."""

import os
import secrets
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

# Before Ray is imported.
os.environ.update(
    RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0",
    OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive", HF_HUB_OFFLINE="1", PYTHONPATH=str(Path(__file__).parents[2]),
    RAY_memory_monitor_refresh_ms="0",  # others may fill this machine
)  # fmt: skip
MARK = "KINOFORM_TEST"  # by which processes are known
QUICK = {  # a node that is gone is noticed in seconds
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 4,
}
MEMORY = 4 * 2**30


@contextmanager
def nodes(*cpus):
    """A cluster with nodes of so many cores, the first its head."""
    from ray.cluster_utils import Cluster

    first, *others = cpus
    options = {"memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(True, head_node_args={"num_cpus": first, "_system_config": QUICK, **options})
    try:
        for count in others:
            cluster.add_node(num_cpus=count, **options)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture
def mine(monkeypatch):
    """A function: numbers of the living processes that the test has started, and those below them, whose commands have
    some words."""
    mark = secrets.token_hex(8)
    monkeypatch.setenv(MARK, mark)
    return partial(_marked, f"{MARK}={mark}")


def _marked(mark, words=""):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            inside = mark.encode() in (folder / "environ").read_bytes().split(b"\0")
            if inside and int(folder.name) != os.getpid() and words.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended, or is nobody's
            continue
    return found

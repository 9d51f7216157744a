"""What is said of a Ray cluster before Ray is imported; Ray itself is tried by `make test-ray`."""

import socket
import time
from types import SimpleNamespace

import pytest

from lab.batch.executors import ray_cluster
from lab.batch.executors.ray_cluster import Cluster, Needs, check
from lab.main import main
from shared.errors import InputError, KinoformError


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A function: Ray is there in a version, and no token is."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def version(text):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
        monkeypatch.setattr("importlib.metadata.version", lambda name: text)

    return version


def test_without_ray_a_line_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["batch", "run", "jobs.json", "--out", "out", "--executor", "ray"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kinoform: --executor ray: expected the package ray, 2.52 or newer, got none.")
    assert line.endswith("pip install 'kinoform[ray]'")


@pytest.mark.parametrize(
    ("version", "refused"), [("2.51.1", True), ("1.99.0", True), ("2.52.0", False), ("3.0", False)]
)
def test_ray_must_know_tokens(installed, version, refused):
    installed(version)
    if refused:
        with pytest.raises(InputError, match=f"got {version}"):
            check(None)
    else:
        check(None)


def test_a_cluster_at_an_address_wants_a_token(installed, monkeypatch, tmp_path):
    installed("2.60.0")
    with pytest.raises(InputError, match="the cluster's token in RAY_AUTH_TOKEN"):
        check("auto")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    check("auto")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("0" * 64)
    check("auto")


def test_somebody_must_be_at_the_address(installed, monkeypatch):
    installed("2.60.0")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check(address)
    with pytest.raises(InputError, match="expected a Ray cluster"):
        check(address)
    for wrong in ("ray://node:10001", "node", ":6379", "node:", "node:port"):
        with pytest.raises(InputError, match="HOST:PORT or auto"):
            check(wrong)


def test_flags_that_say_nothing_together_are_refused(capsys):
    for flags in (["--address", "auto"], ["--slurm", "time=9"], ["--executor", "slurp"], ["--threads", "0"]):
        assert main(["batch", "run", "jobs.json", "--out", "out", *flags]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_how_many_workers_a_node_has_room_for():
    node = {"CPU": 8.0, "GPU": 2.0, "memory": 10 * 2.0**30}
    assert Needs(1, 0, 2**30).fit(node) == 8
    assert Needs(3, 0, 2**30).fit(node) == 2
    assert Needs(1, 1, 2**30).fit(node) == 2
    assert Needs(1, 0, 4 * 2**30).fit(node) == 2
    assert Needs(1, 1, 2**30).fit({"CPU": 8.0, "memory": 2.0**33}) == 0


class Ray:
    """One node, for as long as somebody listens at its address."""

    def __init__(self, address):
        self.get_runtime_context = lambda: SimpleNamespace(gcs_address=address)
        self.nodes = lambda: [{"Alive": True, "Resources": {"CPU": 3.0}}, {"Alive": False, "Resources": {"CPU": 9.0}}]
        self.left = 0

    def shutdown(self):
        self.left += 1


def test_what_ray_reads_is_set_before_it_is_imported(monkeypatch):
    """What turns its statistics and its own lines off, and token authentication on."""
    seen = {}
    monkeypatch.setattr(ray_cluster.os, "environ", seen)
    monkeypatch.setattr(ray_cluster, "_connected", lambda address: dict(seen) and Ray("here:1"))
    assert ray_cluster.reached("auto").address == "here:1"
    assert (seen["RAY_AUTH_MODE"], seen["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")


def test_a_cluster_that_is_gone_is_told_of(monkeypatch):
    monkeypatch.setattr(ray_cluster, "GONE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        cluster = Cluster(Ray(address), address)
        assert cluster.nodes() == [{"CPU": 3.0}]
    assert cluster.nodes() == [{"CPU": 3.0}]  # it may come again
    time.sleep(0.3)
    with pytest.raises(KinoformError, match="the same command goes on"):
        cluster.nodes()
    cluster.close()
    assert cluster.ray.left == 0  # which would wait for it
    with socket.create_server(("127.0.0.1", server_port(address))):
        cluster.nodes()
    cluster.close()
    assert cluster.ray.left == 1


def server_port(address):
    return int(address.rpartition(":")[2])

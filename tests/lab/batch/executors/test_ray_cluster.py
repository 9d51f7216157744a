"""What is said of a Ray cluster before Ray is imported; Ray itself is tried by `make test-ray`."""

import socket

import pytest

from lab.batch.executors import ray_cluster
from lab.batch.executors.ray_cluster import Needs, check
from lab.main import main
from shared.errors import InputError


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
    for flags in (["--address", "auto"], ["--executor", "slurm"], ["--threads", "0"]):
        assert main(["batch", "run", "jobs.json", "--out", "out", *flags]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_how_many_workers_a_node_has_room_for():
    node = {"CPU": 8.0, "GPU": 2.0, "memory": 10 * 2.0**30}
    assert Needs(1, 0, 2**30).fit(node) == 8
    assert Needs(3, 0, 2**30).fit(node) == 2
    assert Needs(1, 1, 2**30).fit(node) == 2
    assert Needs(1, 0, 4 * 2**30).fit(node) == 2
    assert Needs(1, 1, 2**30).fit({"CPU": 8.0, "memory": 2.0**33}) == 0


def test_ours_is_told_before_ray_is_imported(monkeypatch):
    """What turns its statistics, its dashboard's and its own lines off, and asks for a token."""
    seen = {}
    monkeypatch.setattr(ray_cluster.os, "environ", seen)
    monkeypatch.setattr(ray_cluster, "_connected", lambda address: address)
    assert ray_cluster.reached("here:1").ray == "here:1"
    assert (seen["RAY_AUTH_MODE"], seen["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")

"""Results at a URL: real batches whose results go to file://, and what is copied to where."""

import importlib.util
import json
import signal
import subprocess
import sys

import pytest

from lab.batch.ledger.states import State
from lab.batch.place import Place
from lab.batch.results.remote import Remote, claim, local_folder
from shared.errors import InputError
from tests.lab.batch.pictures import batch, hashes, manifest, picture, rows
from tests.lab.command import environment, is_refusal


def test_results_are_copied_and_what_failed_is_copied_by_the_next_run(tmp_path):
    """One place cannot be written to: a folder is there."""
    path, there, here = manifest(tmp_path, 3, chain=False), tmp_path / "there/night", tmp_path / "here"
    (there / "results/p1.png").mkdir(parents=True)
    flags = ["run", path, "--out", there.as_uri(), "--ledger", "here", "--workers", "1"]
    first = batch(*flags, folder=tmp_path)
    assert first.returncode == 1
    found = rows(here)
    assert {id: (row.state, row.attempts) for id, row in found.items()} == {
        "p0": (State.DONE, 0), "p1": (State.FAILED, 1), "p2": (State.DONE, 0)
    }  # fmt: skip
    wrong = f"made, but not copied to {there.as_uri()}/results/p1.png: output: expected a file name"
    assert found["p1"].error.startswith(wrong)
    assert f"failed: p1: {wrong}" in batch("status", "here", folder=tmp_path).stdout
    assert hashes(here).keys() == {"p0.png", "p1.png", "p2.png"}  # made it is
    before = {file: file.stat().st_mtime_ns for file in (there / "results").glob("p[02].png")}
    local = (here / "results/p1.png").stat().st_mtime_ns

    (there / "results/p1.png").rmdir()
    batch("retry", "here", folder=tmp_path)
    second = batch(*flags, folder=tmp_path)
    assert second.returncode == 0, second.stderr
    assert [line for line in second.stdout.splitlines() if ".png" in line] == ["there already p1.png"]
    assert hashes(there) == hashes(here)
    assert len(hashes(there)) == 3
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert (here / "results/p1.png").stat().st_mtime_ns == local  # it was not made again


KILLED = """
import os, signal, sys
from lab.batch.results.remote import Remote
from lab.main import main
Remote.deliver = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""  # a head that is killed when a result is published here, and not there


def test_a_kill_between_here_and_there_costs_nothing(tmp_path):
    path, there, here = manifest(tmp_path, 2, chain=False), tmp_path / "there", tmp_path / "here"
    flags = ["batch", "run", str(path), "--out", there.as_uri(), "--ledger", "here", "--workers", "1"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *flags], cwd=tmp_path, env=environment(), timeout=100)
    assert killed.returncode == -signal.SIGKILL
    (made,) = hashes(here)
    assert not there.exists()
    last = batch(*flags[1:], folder=tmp_path)
    assert last.returncode == 0, last.stderr
    assert f"made {made}" not in last.stdout
    assert hashes(there) == hashes(here)
    assert len(hashes(there)) == 2
    assert [row.attempts for row in rows(here).values()] == [0, 0]


OUTAGE = """
import shutil, sys
from lab.batch.results import delivery, remote
from lab.main import main
class Line:
    cuts = iter(range(int(sys.argv[1])))
    def copyfile(here, there):
        if next(Line.cuts, None) is not None: raise TimeoutError("the line is cut")
        shutil.copyfile(here, there)
remote.shutil = Line
delivery.AGAIN_SECONDS, delivery.PATIENCE_SECONDS = 0.1, float(sys.argv[2])
sys.exit(main(sys.argv[3:]))
"""  # a head whose first so many copies fail, and that is as patient as it is told


def cut(times, patience, *flags, folder):
    return subprocess.run(
        [sys.executable, "-c", OUTAGE, str(times), str(patience), "batch", *flags],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def test_an_outage_is_no_tasks_fault(tmp_path):
    """Two of the tasks are the same work."""
    source = str(picture(tmp_path / "a.png"))
    jobs = [{"name": name, "kind": "upscale", "source": source, "then": [{"kind": "describe"}]} for name in ("a", "b")]
    (tmp_path / "jobs.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    there, here = tmp_path / "there", tmp_path / "here"
    flags = ["run", "jobs.json", "--out", there.as_uri(), "--ledger", "here", "--workers", "1"]
    made = cut(7, 60, *flags, folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("made a") == 2
    assert made.stderr.count("TimeoutError: the line is cut; it is tried again, and the rest goes on") == 1
    assert hashes(there) == hashes(here)
    assert len(hashes(there)) == 4
    assert {row.attempts for row in rows(here).values()} == {0}


def test_where_an_outage_outlasts_all_work_the_next_run_delivers(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    path = manifest(tmp_path, 2, chain=False)
    flags = ["run", str(path), "--out", there.as_uri(), "--ledger", "here", "--workers", "1"]
    made = cut(10**6, 1, *flags, folder=tmp_path)
    assert made.returncode == 1
    assert "made, but not copied" in made.stderr
    assert "TimeoutError: the line is cut" in made.stderr
    assert {row.state for row in rows(here).values()} == {State.FAILED}
    assert len(hashes(here)) == 2
    batch("retry", "here", folder=tmp_path)
    last = batch(*flags, folder=tmp_path)
    assert last.returncode == 0, last.stderr
    assert last.stdout.count("there already") == 2
    assert hashes(there) == hashes(here)


def test_without_a_name_the_ledger_is_in_the_cache_and_equal_work_and_chains_arrive_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = str(picture(tmp_path / "a.png"))
    jobs = [{"name": name, "kind": "upscale", "source": source, "then": [{"kind": "describe"}]} for name in ("a", "b")]
    (tmp_path / "jobs.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    url = (tmp_path / "there").as_uri()
    made = batch("run", "jobs.json", "--out", url, folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert local_folder(url).is_relative_to(tmp_path / "cache")
    assert f"results go to {url}; ledger and page: {local_folder(url)}" in made.stderr
    assert hashes(tmp_path / "there") == hashes(local_folder(url))
    assert len(hashes(tmp_path / "there")) == 4
    assert batch("status", url, folder=tmp_path).stdout.startswith("4 of 4 done")
    again = batch("run", "jobs.json", "--out", url, "--json", folder=tmp_path)
    assert json.loads(again.stdout)["counts"]["done"] == 4


@pytest.mark.parametrize(("flags", "part"), [
    (["--out", "nonsense://x/y"], "expected a URL that fsspec knows"),
    (["--out", "there", "--ledger", "here"], "expected a URL as --out"),
])  # fmt: skip
def test_what_is_no_place_is_refused_in_a_line(tmp_path, flags, part):
    made = batch("run", manifest(tmp_path, 1), *flags, folder=tmp_path)
    assert is_refusal(made.returncode, made.stderr, part), made.stderr


def test_a_folder_belongs_to_one_url(tmp_path):
    one, other = (Remote.open(f"memory://{name}") for name in ("one", "other"))
    place = Place(tmp_path / "a")
    place.prepare()
    claim(place, one)
    claim(place, Remote.open("memory://one/"))
    for wrong in (other, None):
        with pytest.raises(InputError, match="Give the URL of before"):
            claim(place, wrong)
    local = Place(tmp_path / "b")
    local.prepare()
    local.ledger.touch()
    claim(local, None)
    with pytest.raises(InputError, match="Give another --ledger"):
        claim(local, one)


def test_any_file_system_takes_them_and_says_what_is_wrong(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/a.png").write_bytes(b"picture")
    remote = Remote.open("memory://bucket/night/")
    assert remote.deliver(tmp_path, ["deep/a.png"]) is None
    assert remote.system.cat("/bucket/night/results/deep/a.png") == b"picture"
    wrong = remote.deliver(tmp_path, ["gone.png"])
    assert "FileNotFoundError" in wrong.why
    assert wrong.for_good


def test_half_a_file_is_not_there(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "there/results").mkdir(parents=True)
    assert "a.png" in Remote.open((tmp_path / "there").as_uri()).deliver(tmp_path, ["a.png"]).why
    assert list((tmp_path / "there/results").iterdir()) == []


def test_who_has_lost_the_ledger_takes_over_what_is_there(tmp_path):
    path, url = manifest(tmp_path, 2), (tmp_path / "there").as_uri()
    assert batch("run", path, "--out", url, "--ledger", "here", folder=tmp_path).returncode == 0
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "there/results").iterdir()}
    others = tmp_path / "there/results/p1.png"
    others.write_bytes(b"somebody else's")
    made = batch("run", path, "--out", url, "--ledger", "other", folder=tmp_path)
    assert made.returncode == 1
    assert made.stdout.count("there already") == 4
    assert "made " not in made.stdout
    assert f"p1: output {url}/results/p1.png: expected no other file there, got one of somebody else" in made.stderr
    assert others.read_bytes() == b"somebody else's"
    others.unlink()
    batch("retry", "other", folder=tmp_path)
    assert batch("run", path, "--out", url, "--ledger", "other", folder=tmp_path).returncode == 0
    assert hashes(tmp_path / "other") == hashes(tmp_path / "here") == hashes(tmp_path / "there")
    assert {file: file.stat().st_mtime_ns for file in files if file.name[:2] == "p0"} == {
        file: changed for file, changed in files.items() if file.name[:2] == "p0"
    }


def test_equal_bytes_are_not_written_again_and_others_are(tmp_path):
    for name in ("same", "other"):
        (tmp_path / name).write_bytes(name.encode())
    remote = Remote.open("memory://bucket/equal")
    remote.system.pipe({"/bucket/equal/results/same": b"same", "/bucket/equal/results/other": b"OTHER"})
    before = remote.system.created("/bucket/equal/results/same")
    remote.check()
    assert remote.there == {"same": 4, "other": 5}
    assert remote.deliver(tmp_path, ["same", "other"]) is None
    assert remote.system.created("/bucket/equal/results/same") == before
    assert remote.system.cat("/bucket/equal/results/other") == b"other"
    assert not remote.system.exists("/bucket/equal/.kinoform")


def test_a_place_that_takes_nothing_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    made = batch("run", manifest(tmp_path, 1), "--out", (tmp_path / "file/night").as_uri(), folder=tmp_path)
    assert is_refusal(made.returncode, made.stderr, "expected a place that can be listed and written to"), made.stderr
    assert not (tmp_path / "cache").exists()


def test_a_protocol_without_its_package_is_refused_in_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match=r"expected a URL that fsspec knows, got s3://bucket/night\. Install s3fs"):
        Remote.open("s3://bucket/night")


def test_without_the_package_a_line_names_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    with pytest.raises(InputError, match=r"expected the package fsspec, .* pip install 'kinoform\[fsspec\]'$"):
        Remote.open("s3://bucket/night")

"""Asking a batch that runs: cancel, pause, resume, Ctrl-C, and manifests that come."""

import json
import signal
import time

import pytest

from lab.batch.ledger.states import State
from tests.lab.batch.pictures import batch, hashes, manifest, picture, rows, start, wait_until, workers_of
from tests.lab.command import is_refusal


@pytest.fixture
def long_batch(tmp_path, model):
    """A head at work on pictures of many steps, one after the other."""
    jobs = {"prompt": "a red cube", "kind": "image", "steps": 200, "model": str(model)}
    (tmp_path / "long.json").write_text(
        json.dumps({"version": 1, "defaults": jobs, "jobs": [{"name": f"l{i}", "seed": i} for i in range(3)]})
    )
    head = start("run", "long.json", "--out", "out", "--workers", "1", "--exact", folder=tmp_path)
    try:
        wait_until(lambda: "l0" in rows(tmp_path / "out") and (rows(tmp_path / "out")["l0"].share or 0) > 0, 200)
        yield tmp_path, head
    finally:
        head.kill()
        head.wait()


def states(folder):
    return [rows(folder / "out")[f"l{i}"].state for i in range(3)]


def test_cancelled_tasks_stop_within_a_step_and_the_rest_goes_on(long_batch):
    folder, head = long_batch
    (worker,) = workers_of(head.pid)
    started = time.monotonic()
    told = batch("cancel", "out", "l0", folder=folder)
    assert (told.returncode, told.stdout) == (0, "1 cancelled\n")
    wait_until(lambda: states(folder)[1] is State.RUNNING)
    assert time.monotonic() - started < 60  # a picture takes longer, and loading the model again
    assert states(folder)[0] is State.CANCELLED
    assert workers_of(head.pid) == [worker]  # it is the same, with its model
    assert batch("cancel", "out", folder=folder).stdout == "2 cancelled\n"
    assert head.wait(200) == 1
    assert hashes(folder / "out") == {}
    assert "try those again" in (folder / "said.txt").read_text()


def test_a_pause_lets_what_is_under_way_end_and_begins_nothing(long_batch):
    folder, head = long_batch
    assert batch("pause", "out", folder=folder).stdout == "paused\n"
    assert "paused: kinoform batch resume out" in batch("status", "out", folder=folder).stdout
    wait_until(lambda: states(folder)[0] is State.DONE, 120)
    time.sleep(1)
    assert states(folder)[1:] == [State.QUEUED, State.QUEUED]
    assert batch("resume", "out", folder=folder).stdout == "going on\n"
    wait_until(lambda: states(folder)[1] is State.RUNNING)
    head.send_signal(signal.SIGINT)
    assert head.wait(200) == 130
    assert states(folder) == [State.DONE, State.DONE, State.QUEUED]
    assert "Ctrl-C once more stops at once" in (folder / "said.txt").read_text()


def test_a_second_interrupt_stops_at_once_and_charges_nobody(long_batch):
    folder, head = long_batch
    head.send_signal(signal.SIGINT)
    time.sleep(0.5)
    head.send_signal(signal.SIGINT)
    assert head.wait(60) == 130
    assert states(folder) == [State.QUEUED] * 3
    assert [row.attempts for row in rows(folder / "out").values()] == [0, 0, 0]


def test_a_batch_without_a_head_is_asked_as_well(tmp_path):
    assert is_refusal(*_refused(tmp_path, "status"), "no ledger")
    assert is_refusal(*_refused(tmp_path, "cancel"), "no ledger")
    path = manifest(tmp_path, 2, chain=False)
    assert batch("run", path, "--out", "out", folder=tmp_path).returncode == 0
    assert batch("cancel", "out", folder=tmp_path).stdout == "0 cancelled\n"
    assert is_refusal(*_code_and_error(batch("cancel", "out", "p9", folder=tmp_path)), "p9", "Did you mean p1?")


def _refused(folder, action):
    (folder / "empty").mkdir(exist_ok=True)
    return _code_and_error(batch(action, "empty", folder=folder))


def _code_and_error(made):
    return made.returncode, made.stderr


def test_manifests_that_come_are_made_and_bad_ones_are_said(tmp_path):
    (tmp_path / "inbox").mkdir()
    head = start("watch", "inbox", "--out", "out", folder=tmp_path)
    try:
        said = tmp_path / "said.txt"
        wait_until(lambda: "watching inbox" in said.read_text())
        (tmp_path / "inbox/bad.yaml").write_text("jobs: [{kind: clop}]")
        job = {"name": "a", "kind": "upscale", "source": str(picture(tmp_path / "a.png"))}
        (tmp_path / "inbox/good.json").write_text(json.dumps({"version": 1, "jobs": [job]}))
        wait_until(lambda: (tmp_path / "out/results/a.png").is_file())
        wait_until(lambda: "bad.yaml is left: " in said.read_text())
        (tmp_path / "inbox/same.json").write_text(json.dumps({"version": 1, "jobs": [{**job, "name": "b"}]}))
        wait_until(lambda: (tmp_path / "out/results/b.png").is_file())  # what was made before is taken over
    finally:
        head.send_signal(signal.SIGINT)
        assert head.wait(60) == 130


def test_a_table_of_all_tasks(tmp_path):
    path = manifest(tmp_path, 2, tags=["x", "y"])
    batch("run", path, "--out", "out", folder=tmp_path)
    assert batch("export", "out", "-o", "t.csv", folder=tmp_path).stdout == "wrote 8 tasks to t.csv\n"
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0].startswith("manifest,id,step,state,prompt")
    assert len(lines) == 9
    batch("export", "out", "-o", "t.jsonl", folder=tmp_path)
    first = json.loads((tmp_path / "t.jsonl").read_text().splitlines()[0])
    assert (first["id"], first["state"], first["tags"]) == ("p0", "done", ["x", "y"])
    assert first["sha256"] == hashes(tmp_path / "out")["p0.png"]
    assert is_refusal(*_code_and_error(batch("export", "out", "-o", "t.txt", folder=tmp_path)), ".csv, .jsonl")

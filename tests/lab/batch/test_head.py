"""What can go wrong around a batch, with real processes: nothing is lost, nothing is done twice, and it says so."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial

import pytest

from lab.batch.ledger.states import State
from shared.artifacts.files import sha256
from tests.lab.batch.pictures import (
    alive,
    batch,
    hashes,
    kill,
    manifest,
    picture,
    rows,
    start,
    wait_until,
    workers_of,
)
from tests.lab.command import environment, is_refusal

BIG = {"scale": 16}  # a second of work and more, of pictures of 128 pixels


def big_manifest(folder, count=4):
    sources = [str(picture(folder / f"in/{i}.png", i, size=128)) for i in range(count)]
    jobs = [
        {"name": f"b{i}", "kind": "upscale", "source": source, "priority": count - i, **BIG}
        for i, source in enumerate(sources)
    ]
    path = folder / "big.json"
    path.write_text(json.dumps({"version": 1, "jobs": jobs}))
    return path


def state(out, id):
    row = rows(out).get(id)
    return None if row is None else row.state


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    made = batch("run", manifest(folder), "--out", "out", folder=folder)
    assert made.returncode == 0, made.stderr
    return folder


def test_a_second_run_does_nothing(undisturbed):
    before = {file: file.stat().st_mtime_ns for file in (undisturbed / "out/results").iterdir()}
    again = batch("run", "jobs.json", "--out", "out", "--json", folder=undisturbed)
    assert again.returncode == 0
    assert json.loads(again.stdout)["counts"]["done"] == 16
    assert {file: file.stat().st_mtime_ns for file in (undisturbed / "out/results").iterdir()} == before


def test_heads_killed_again_and_again_lose_nothing(undisturbed, tmp_path):
    """The inputs are the same files, so that every byte must be."""
    shutil.copy(undisturbed / "jobs.json", tmp_path / "jobs.json")
    out = tmp_path / "out"
    kills = 0
    for wanted in (1, 6, 11):
        head = start("run", "jobs.json", "--out", "out", folder=tmp_path)
        wait_until(partial(_has_made, head, out, wanted))
        workers = workers_of(head.pid)
        kills += head.poll() is None
        kill(head)
        for worker in workers:
            wait_until(partial(_is_gone, worker))
    assert kills >= 2
    last = batch("run", "jobs.json", "--out", "out", folder=tmp_path)
    assert last.returncode == 0, last.stderr
    assert hashes(out) == hashes(undisturbed / "out")
    assert not list((out / ".batch/stage").iterdir())
    assert all(row.attempts == 0 for row in rows(out).values())


def _has_made(head, out, count):
    return head.poll() is not None or len(list(out.glob("results/*.*"))) >= count


def _is_gone(pid):
    return not alive(pid)


def test_a_worker_taken_away_costs_its_task_no_attempt(tmp_path):
    path = big_manifest(tmp_path)
    head = start("run", path, "--out", "out", "--workers", "2", folder=tmp_path)
    wait_until(lambda: state(tmp_path / "out", "b1") is State.RUNNING)
    for worker in workers_of(head.pid):
        os.kill(worker, signal.SIGKILL)
    assert head.wait(200) == 0
    found = rows(tmp_path / "out")
    assert {row.state for row in found.values()} == {State.DONE}
    assert {row.attempts for row in found.values()} == {0}
    assert "taken away" in (tmp_path / "said.txt").read_text()


def test_a_worker_that_hangs_is_ended_and_its_task_charged(tmp_path):
    path = big_manifest(tmp_path, 1)
    head = start("run", path, "--out", "out", "--hang", "10", "--workers", "1", folder=tmp_path)
    wait_until(lambda: workers_of(head.pid))
    os.kill(workers_of(head.pid)[0], signal.SIGSTOP)  # before it has begun
    wait_until(lambda: "again: b0: its worker said nothing for 10 s" in (tmp_path / "said.txt").read_text())
    assert head.wait(200) in (0, 1)
    assert rows(tmp_path / "out")["b0"].attempts >= 1


def test_a_task_without_memory_is_poisoned_and_the_others_go_on(tmp_path):
    small, large = picture(tmp_path / "small.png"), picture(tmp_path / "large.png", size=2000)
    jobs = [{"name": "large", "kind": "upscale", "source": str(large), **BIG},
            {"name": "small", "kind": "upscale", "source": str(small)}]  # fmt: skip
    (tmp_path / "jobs.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    made = batch("run", "jobs.json", "--out", "out", "--memory", "1500M", "--workers", "1", folder=tmp_path)
    assert made.returncode == 1
    found = rows(tmp_path / "out")
    assert (found["large"].state, found["large"].attempts) == (State.POISONED, 3)
    assert "Memory" in found["large"].error
    assert found["small"].state is State.DONE
    assert "kinoform batch retry" in made.stderr


SET_BACK = """
import sys, time
from pathlib import Path
mark, real = Path(sys.argv.pop(1)), time.time
time.time = lambda: real() - 3600 * mark.exists()
from lab.main import main
sys.exit(main(sys.argv[1:]))
"""  # a head whose clock is set back by an hour once there is a file of a name


def clocked(mark, *arguments, folder):
    with (folder / "said.txt").open("ab") as said:
        command = [sys.executable, "-c", SET_BACK, str(mark), "batch", *map(str, arguments)]
        return subprocess.Popen(command, cwd=folder, env=environment(), stdout=said, stderr=said)


def test_a_clock_that_is_set_back_costs_no_lease_and_changes_no_order(tmp_path):
    path, out = big_manifest(tmp_path, 3), tmp_path / "out"
    head = clocked(tmp_path / "mark", "run", path, "--out", "out", "--workers", "1", "--hang", "60", folder=tmp_path)
    wait_until(lambda: state(out, "b0") is State.DONE)
    (tmp_path / "mark").touch()
    assert head.wait(200) == 0
    found = rows(out)
    assert [(row.state, row.attempts) for row in found.values()] == [(State.DONE, 0)] * 3
    assert found["b2"].changed < found["b0"].changed - 3000  # it was set back indeed
    made = [line for line in (tmp_path / "said.txt").read_text().splitlines() if line.startswith("made ")]
    assert made == ["made b0.png", "made b1.png", "made b2.png"]
    assert batch("run", path, "--out", "out", folder=tmp_path).stdout.count("made ") == 0


def test_a_manifest_from_the_future_is_taken_up(tmp_path):
    (tmp_path / "inbox").mkdir()
    (tmp_path / "mark").touch()
    head = clocked(tmp_path / "mark", "watch", "inbox", "--out", "out", folder=tmp_path)
    try:
        wait_until(lambda: "watching inbox" in (tmp_path / "said.txt").read_text())
        job = {"name": "a", "kind": "upscale", "source": str(picture(tmp_path / "a.png"))}
        (tmp_path / "inbox/jobs.json").write_text(json.dumps({"version": 1, "jobs": [job]}))
        wait_until(lambda: (tmp_path / "out/results/a.png").is_file(), 60)
        assert batch("pause", "out", folder=tmp_path).stdout == "paused\n"
        assert batch("resume", "out", folder=tmp_path).stdout.startswith("going on")
    finally:
        head.send_signal(signal.SIGINT)
        assert head.wait(60) == 130


def test_a_full_disk_stops_the_batch_and_the_same_command_goes_on(tmp_path):
    path = big_manifest(tmp_path, 2)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))  # noqa: E731
    made = batch("run", path, "--out", "out", folder=tmp_path, preexec_fn=limit)
    assert made.returncode == 1
    assert "run the same command again" in made.stderr
    assert hashes(tmp_path / "out") == {}
    assert {row.state for row in rows(tmp_path / "out").values()} == {State.QUEUED}
    assert {row.attempts for row in rows(tmp_path / "out").values()} == {0}
    assert batch("run", path, "--out", "out", folder=tmp_path).returncode == 0
    assert len(hashes(tmp_path / "out")) == 2


def test_places_that_cannot_be_written_to_are_refused_in_a_line(undisturbed, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for out in ("file", "file/below", "/proc/nothing"):
        made = batch("run", undisturbed / "jobs.json", "--out", out, folder=tmp_path)
        assert is_refusal(made.returncode, made.stderr, "expected"), made.stderr


def test_a_damaged_ledger_is_refused_and_its_files_are_taken_over(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "out", tmp_path / "out")
    ledger = tmp_path / "out/batch.sqlite"
    ledger.write_bytes(b"rubbish" * 10_000)
    made = batch("run", undisturbed / "jobs.json", "--out", "out", folder=tmp_path)
    assert is_refusal(made.returncode, made.stderr, "ledger", "Move batch.sqlite away")
    ledger.unlink()
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out/results").iterdir()}
    made = batch("run", undisturbed / "jobs.json", "--out", "out", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "there already" in made.stdout
    assert "made p" not in made.stdout
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out/results").iterdir()} == before


def test_a_second_head_says_who_the_first_is(tmp_path):
    path = big_manifest(tmp_path, 2)
    head = start("run", path, "--out", "out", folder=tmp_path)
    wait_until(lambda: state(tmp_path / "out", "b0") is State.RUNNING)
    os.kill(head.pid, signal.SIGSTOP)  # it would be done before the second one has its imports
    second = batch("run", path, "--out", "out", folder=tmp_path)
    os.kill(head.pid, signal.SIGCONT)
    assert second.returncode == 1
    assert f"process {head.pid} on" in second.stderr
    assert head.wait(200) == 0


def test_files_that_are_gone_or_changed_are_made_again(undisturbed, tmp_path):
    shutil.copytree(undisturbed / "out", tmp_path / "out")
    (tmp_path / "out/results/p0.png").unlink()
    (tmp_path / "out/results/p1.png").write_bytes(b"somebody was here")
    made = batch("run", undisturbed / "jobs.json", "--out", "out", folder=tmp_path)
    assert "2 done before, whose files are gone or changed, are made again" in made.stderr
    assert "made p0.png" in made.stdout
    assert sha256(tmp_path / "out/results/p0.png") == sha256(undisturbed / "out/results/p0.png")
    # What lies there now is nobody's result: it is not written over.
    assert "p1: output" in made.stderr
    assert (tmp_path / "out/results/p1.png").read_bytes() == b"somebody was here"
    assert made.returncode == 1


def test_what_a_failed_task_was_to_feed_is_blocked_and_says_why(tmp_path):
    source = tmp_path / "no.png"
    source.write_bytes(b"no picture")
    jobs = [{"name": "a", "kind": "upscale", "source": str(source), "then": [{"kind": "upscale"}]},
            {"name": "b", "kind": "upscale", "source": str(picture(tmp_path / "yes.png"))}]  # fmt: skip
    (tmp_path / "jobs.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    made = batch("run", "jobs.json", "--out", "out", folder=tmp_path)
    assert made.returncode == 1
    found = rows(tmp_path / "out")
    assert [found[id].state for id in ("a", "a/upscale", "b")] == [State.FAILED, State.BLOCKED, State.DONE]
    told = batch("status", "out", folder=tmp_path).stdout
    assert "blocked: a/upscale: waits for a, which is failed: " in told
    picture(source)
    batch("retry", "out", folder=tmp_path)
    assert batch("run", "jobs.json", "--out", "out", folder=tmp_path).returncode == 0


def test_a_link_among_the_results_is_not_followed(tmp_path):
    path = manifest(tmp_path, 1, chain=False)
    target = tmp_path / "precious.png"
    target.write_bytes(b"precious")
    (tmp_path / "out/results").mkdir(parents=True)
    (tmp_path / "out/results/p0.png").symlink_to(target)
    made = batch("run", path, "--out", "out", folder=tmp_path)
    assert made.returncode == 1
    assert "a link that leads elsewhere" in made.stderr
    assert target.read_bytes() == b"precious"


def test_the_same_work_is_done_once_in_all_manifests(tmp_path):
    source = str(picture(tmp_path / "a.png"))
    for name in ("one", "two"):
        jobs = [{"name": f"{name}-{i}", "kind": "upscale", "source": source} for i in range(2)]
        (tmp_path / f"{name}.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    first = batch("run", "one.json", "--out", "out", folder=tmp_path)
    second = batch("run", "two.json", "--out", "out", folder=tmp_path)
    assert (first.stdout.count("made "), first.stdout.count("there already ")) == (1, 1)
    assert (second.stdout.count("made "), second.stdout.count("there already ")) == (0, 2)
    assert len(set(hashes(tmp_path / "out").values())) == 1

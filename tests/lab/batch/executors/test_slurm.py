"""Jobs by submitit, which runs them as processes of this machine here: the same bytes, and nobody is charged for a job
that is taken away."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import pytest

from lab.batch.content import entries
from lab.batch.executors import slurm
from lab.batch.executors.executor import Assignment, Order
from lab.batch.executors.local import LocalExecutor
from lab.batch.executors.slurm import SlurmExecutor, submitter
from lab.batch.executors.slurm_job import Box
from lab.batch.head import Head
from lab.batch.ledger.enqueue import enqueue
from lab.batch.ledger.ledger import Ledger
from lab.batch.ledger.states import State
from lab.batch.manifest import read_manifest
from lab.batch.place import Place
from shared.errors import InputError, KinoformError
from tests.lab.batch.pictures import alive, hashes, picture, wait_until
from tests.lab.command import environment


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(slurm, "ASK_SECONDS", 0.5)


def executor(folder, count=1):
    return SlurmExecutor(submitter(folder / "jobs", {"timeout_min": 10}, "local"), folder / "boxes", count)


def enlarged(folder, count):
    jobs = [
        {"name": f"n{n}", "kind": "upscale", "scale": 16, "source": str(picture(folder / f"in/{n}.png", n, size=64)),
         "then": [{"kind": "upscale", "scale": 2}]}
        for n in range(count)
    ]  # fmt: skip
    path = folder / "jobs.json"
    path.write_text(json.dumps({"version": 1, "jobs": jobs}))
    return path


@contextmanager
def head_of(path, out, doer):
    place = Place(out)
    place.prepare()
    with closing(Ledger.open(place.ledger)) as ledger:
        enqueue(ledger, path.name, entries(read_manifest(path)), now=1)
        yield Head(place, ledger, doer)


def below(pid):
    """Processes below one, and itself."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, above in pairs if above == parent]
    return found


def test_bytes_are_those_of_local_workers_though_a_job_is_killed(tmp_path, quick):
    path = enlarged(tmp_path, 4)
    with head_of(path, tmp_path / "local", LocalExecutor(tmp_path / "logs")) as head:
        assert {happened.what for happened in head.run()} <= {"done", "waiting"}
    doer = executor(tmp_path)
    killed, whats, jobs = [], [], set()
    with head_of(path, tmp_path / "far", doer) as head:
        for happened in head.run():
            whats.append(happened.what)
            jobs |= {seat.job.job_id for seat in doer.seats if seat.job is not None}
            if whats.count("done") == 2 and not killed and head.ledger.counts()[State.RUNNING]:
                killed = below(int(doer.seats[0].job.job_id))
                assert len(killed) == 3  # submitit's, ours, and its worker
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
        rows = list(head.ledger.each())
    assert whats.count("taken away") == 1
    assert len(jobs) == 2  # which were warm otherwise
    assert {row.state for row in rows} == {State.DONE}
    assert {row.attempts for row in rows} == {0}
    assert len(hashes(tmp_path / "far")) == 8
    assert hashes(tmp_path / "far") == hashes(tmp_path / "local")
    assert not [pid for job in jobs for pid in below(int(job)) if running(pid)]


def running(pid):
    """A job that its maker has not asked about yet is a zombie."""
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_worker_that_dies_by_its_own_fault_is_charged_and_a_cancelled_task_ends(tmp_path, quick):
    doer = executor(tmp_path)
    heard = Ear(doer)
    source = str(picture(tmp_path / "in.png", 0, size=256))
    long = {"prompt": "a red cube", "steps": 1000}
    try:
        doer.give("slurm-1", Assignment(1, "image", (Order(5, long, str(tmp_path / "stage/a.png")),)))
        assert doer.free() == []
        first = heard("alive", lambda report: report.shares)
        (worker,) = [pid for pid in below(int(doer.seats[0].job.job_id)) if "executors.worker" in command(pid)]
        doer.cancel(1)
        asked = time.monotonic()
        assert heard("ended").token == 1
        assert time.monotonic() - asked < 30
        assert max(first.shares.values()) < 0.5
        assert doer.free() == ["slurm-1"]
        doer.give("slurm-1", Assignment(2, "image", (Order(6, long, str(tmp_path / "stage/b.png")),)))
        heard("alive", lambda report: report.shares)
        os.kill(worker, signal.SIGSEGV)
        gone = heard("gone")
        assert (gone.token, gone.fault) == (2, "work")
        recipe = {"scale": 2, "source": source}
        doer.give("slurm-1", Assignment(3, "upscale", (Order(7, recipe, str(tmp_path / "stage/c.png")),)))
        assert heard("made").number == 7
        heard("ended")
        doer.give("slurm-1", Assignment(4, "image", (Order(8, long, str(tmp_path / "stage/d.png")),)))
        doer.drop(4)
        gone = heard("gone")
        assert (gone.token, gone.fault) == (4, None)
    finally:
        doer.close()


class Ear:
    """Hears what an executor reports, in order."""

    def __init__(self, doer):
        self.doer, self.told = doer, []

    def __call__(self, event, true=lambda report: True):
        """The next report of an event."""
        until = time.monotonic() + 200
        while time.monotonic() < until:
            while self.told:
                report = self.told.pop(0)
                if report.event == event and true(report):
                    return report
            self.told += self.doer.poll(0.2)
        raise AssertionError(f"nothing {event} in time")


def command(pid):
    try:
        return open(f"/proc/{pid}/cmdline").read()
    except OSError:
        return ""


@pytest.mark.parametrize("beats", [0, 2])
def test_a_job_ends_with_its_head_and_one_that_is_begun_again_does_nothing(tmp_path, beats):
    """Where the head was gone before, it begins nothing."""
    order = Order(5, {"prompt": "a red cube", "steps": 1000}, str(tmp_path / "a.png"))
    Box(tmp_path / "orders").put([Assignment(1, "image", (order,)).to_json()])
    beat = tmp_path / "beat"
    beat.write_text("0")
    program = f"from lab.batch.executors.slurm_job import serve; serve({str(tmp_path)!r}, {{}}, 4.0)"
    job = subprocess.Popen([sys.executable, "-c", program], env=environment())
    workers = []
    wait_until((tmp_path / "reports").exists)
    for number in range(beats):
        beat.write_text(str(number + 1))
        wait_until(lambda: len(below(job.pid)) == 2)
        workers = below(job.pid)[1:]
    assert job.wait(60) == 0
    assert not [pid for pid in workers if alive(pid)]
    assert (tmp_path / "worker-1.log").exists() == bool(beats)
    before = (tmp_path / "reports").read_bytes()
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True, timeout=60)
    assert (tmp_path / "reports").read_bytes() == before


def test_jobs_that_end_as_they_start_are_no_accident(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(slurm, "serve", os._exit)  # which takes no such arguments
    doer = executor(tmp_path)
    heard = Ear(doer)
    assignment = Assignment(1, "upscale", ())
    with pytest.raises(KinoformError, match="slurm-1 cannot start"):
        for _ in range(3):
            doer.give("slurm-1", assignment)
            assert heard("gone").fault is None
    doer.close()


def test_half_a_line_is_not_read(tmp_path):
    box = Box(tmp_path / "orders")
    assert box.take() == []
    box.put([{"a": 1}, {"b": 2}])
    with box.path.open("a") as file:
        file.write('{"c"')
    assert box.take() == [{"a": 1}, {"b": 2}]
    assert box.take() == []
    with box.path.open("a") as file:
        file.write(": 3}\n")
    assert box.take() == [{"c": 3}]


def test_what_cannot_be_submitted_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--slurm: expected a parameter of submitit's"):
        submitter(tmp_path, {"no_such": 1}, "local")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="expected Slurm's commands on PATH, got no srun"):
        slurm.check()
    (tmp_path / "srun").touch(0o755)
    slurm.check()

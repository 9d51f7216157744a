"""Who does a batch's tasks: what each worker is given of a machine or a cluster."""

from contextlib import closing

import pytest

from lab.batch.executors import ray_cluster
from lab.batch.executors.ray_cluster import Cluster, Needs
from lab.batch.ledger.enqueue import enqueue
from lab.batch.ledger.ledger import Ledger
from lab.batch.ledger.rows import Entry
from lab.batch.place import Place
from lab.commands.batch import workers
from lab.commands.batch.workers import WorkerOptions, executor_of
from shared.errors import InputError

GIB = 2**30


class Nodes(Cluster):
    """A cluster of which nothing but its nodes is there. each: cores and GPUs of a node."""

    def __init__(self, *each):
        super().__init__(None, "here:1")
        self.each, self.closed = each, False

    def nodes(self):
        return [{"CPU": float(cpus), "GPU": float(gpus), "memory": 64.0 * GIB} for cpus, gpus in self.each]

    def close(self):
        self.closed = True


@pytest.fixture
def batch(tmp_path):
    """A function: (step, count) -> the place and the ledger of a batch of so many such tasks."""
    place = Place(tmp_path / "out")
    place.prepare()
    with closing(Ledger.open(place.ledger)) as ledger:

        def of(step, count):
            entries = [Entry(f"t{n}", step, {}, {}, f"{n}.png", str(n), "model|a") for n in range(count)]
            enqueue(ledger, "jobs.json", entries, now=0.0)
            return place, ledger

        yield of


@pytest.mark.parametrize(
    ("step", "nodes", "options", "needs", "device", "where"),
    [
        ("image", [(8, 0)], {}, Needs(1, 0, 2 * GIB), "cpu", "cpu"),
        ("image", [(16, 4), (12, 2), (64, 0)], {}, Needs(4, 1, 2 * GIB), "auto", "cuda"),
        ("image", [(16, 4)], {"threads": 3, "memory": GIB}, Needs(3, 1, GIB), "auto", "cuda"),
        ("image", [(16, 4)], {"device": "cpu"}, Needs(1, 0, 2 * GIB), "cpu", "cpu"),
        ("upscale", [(16, 4)], {}, Needs(1, 0, 2 * GIB), "cpu", "cpu"),  # which runs no model
    ],
)
def test_workers_of_a_cluster(monkeypatch, batch, step, nodes, options, needs, device, where):
    cluster = Nodes(*nodes)
    monkeypatch.setattr(ray_cluster, "reached", lambda address: cluster)
    place, ledger = batch(step, 3)
    given = WorkerOptions(executor="ray", address="here:1", **options)
    executor, found = executor_of(place, ledger, given, forever=False)
    assert (executor.needs, executor.device, found) == (needs, device, where)
    assert (executor.most, executor.shared) == (3, place.lock)


@pytest.mark.parametrize(("options", "told"), [({"threads": 9}, "a node with 9 cores"), ({"device": "cuda"}, "GPU")])
def test_a_cluster_without_room_is_refused_and_left(monkeypatch, batch, options, told):
    cluster = Nodes((8, 0), (4, 0))
    monkeypatch.setattr(ray_cluster, "reached", lambda address: cluster)
    with pytest.raises(InputError, match=told):
        executor_of(*batch("image", 3), WorkerOptions(executor="ray", address="here:1", **options), forever=False)
    assert cluster.closed


@pytest.mark.parametrize(
    ("gpus", "step", "options", "asked", "needs"),
    [
        ((), "image", {"count": 2, "threads": 3}, (6, 0, 4 * GIB), Needs(3, 0, 2 * GIB)),
        ((0, 1), "image", {"threads": 4}, (8, 2, 4 * GIB), Needs(4, 1, 2 * GIB)),
        ((0, 1), "image", {"threads": 4, "count": 5}, (8, 2, 4 * GIB), Needs(4, 1, 2 * GIB)),
        ((0, 1), "upscale", {"threads": 4, "memory": GIB}, (8, 0, 2 * GIB), Needs(4, 0, GIB)),
    ],
)
def test_a_cluster_of_this_machine_has_room_for_its_workers(monkeypatch, batch, gpus, step, options, asked, needs):
    got = []
    monkeypatch.setattr(workers, "gpu_numbers", lambda: gpus)
    monkeypatch.setattr(ray_cluster, "own", lambda *sizes: got.append(sizes) or Nodes())
    executor, _ = executor_of(*batch(step, 3), WorkerOptions(executor="ray", **options), forever=False)
    assert got == [asked]
    assert executor.needs == needs


def test_there_are_never_more_workers_than_tasks_unless_more_may_come(batch):
    place, ledger = batch("upscale", 2)
    for forever, count in ((False, 2), (True, 5)):
        executor, _ = executor_of(place, ledger, WorkerOptions(count=5, device="cpu"), forever=forever)
        assert len(executor.workers) == count
        executor.close()


def test_a_slurm_job_asks_for_what_its_worker_takes(batch, tmp_path, monkeypatch):
    (tmp_path / "srun").touch(0o755)  # by which submitit knows a cluster
    monkeypatch.setenv("PATH", str(tmp_path))
    place, ledger = batch("image", 3)
    options = {"executor": "slurm", "threads": 3, "memory": 5 * GIB // 2, "slurm": {"partition": "short", "time": 600}}
    for device, gpus in (("cuda", 1), ("auto", 0)):
        executor, where = executor_of(place, ledger, WorkerOptions(device=device, **options), forever=False)
        text = executor.jobs._executor._make_submission_file_text("work", "1")
        asked = dict(
            line[10:].split("=", 1) for line in text.splitlines() if line.startswith("#SBATCH --") and "=" in line
        )
        wanted = {"cpus-per-task": "3", "mem": "3GB", "nodes": "1", "time": "600", "partition": "short"}
        assert wanted.items() <= asked.items()
        assert int(asked.get("gpus-per-node", 0)) == gpus
        assert (len(executor.free()), where) == (3, "cuda" if gpus else "cpu")
        assert executor.settings == {"threads": 3, "device": where, "memory": 5 * GIB // 2}
    with pytest.raises(InputError, match="--slurm: expected a parameter of submitit's"):
        executor_of(place, ledger, WorkerOptions(executor="slurm", slurm={"nosuch": "1"}), forever=False)

"""Who does the tasks of a batch, and with how much of which machine each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.batch.executors.executor import Executor
from lab.batch.ledger.ledger import Ledger
from lab.batch.ledger.states import State
from lab.batch.place import Place
from lab.kinds import kinds
from shared.errors import InputError

MOST_WORKERS = 8  # that are started unasked on this machine
WORKER_BYTES = 2 * 2**30  # that one is reckoned with
SLURM_MINUTES = 240  # of a job, unless it is said otherwise
OPEN = (State.QUEUED, State.BLOCKED, State.RUNNING)


@dataclass(frozen=True)
class WorkerOptions:
    """executor: "local", "ray" or "slurm". address: of a Ray cluster; one of this machine alone where None. slurm: what
    jobs ask for besides. count: workers, or what fits where None. threads: of each, or what there is of cores for each
    where None. memory: bytes that each may take, 0 for any.
    """

    executor: str = "local"
    address: str | None = None
    slurm: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    count: int | None = None
    threads: int | None = None
    memory: int = 0


def executor_of(place: Place, ledger: Ledger, options: WorkerOptions, *, forever: bool) -> tuple[Executor, str]:
    """Who does the tasks, and on what: "cpu" or "cuda". forever: more tasks may come."""
    counts = ledger.counts()
    most = None if forever else max(1, sum(counts[state] for state in OPEN))
    draws = forever or bool(ledger.steps(*OPEN) & kinds().keys())
    if options.address is not None:
        return _at_address(place, options, options.address, most, draws)
    if options.executor == "slurm":
        return _on_slurm(place, options, most, draws)
    gpus = () if options.device == "cpu" else gpu_numbers()
    if options.device == "cuda" and not gpus:
        raise InputError("--device", expected="cpu or auto", got="cuda", hint="nvidia-smi sees no GPU here")
    where = "cuda" if gpus else "cpu"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = options.count or (len(gpus) if gpus else min(cores, MOST_WORKERS, max(1, _memory() // WORKER_BYTES)))
    count = count if most is None else min(count, most)
    threads = options.threads or max(1, cores // count)
    if options.executor == "ray":
        from lab.batch.executors import ray_cluster
        from lab.batch.executors.ray_executor import RayExecutor

        needs = ray_cluster.Needs(threads, int(bool(gpus) and draws), options.memory or WORKER_BYTES)
        count = min(count, len(gpus)) if needs.gpus else count
        cluster = ray_cluster.own(count * threads, count * needs.gpus, count * needs.memory)
        device = options.device if needs.gpus else "cpu"
        return RayExecutor(cluster, needs, place.logs, place.lock, count, most, device, options.memory), where
    from lab.batch.executors.local import LocalExecutor

    return LocalExecutor(place.logs, count, threads, options.device, gpus, options.memory), where


def _at_address(
    place: Place, options: WorkerOptions, address: str, most: int | None, draws: bool
) -> tuple[Executor, str]:
    """A worker a GPU of the cluster, or one a core. draws: some tasks run a model."""
    from lab.batch.executors import ray_cluster
    from lab.batch.executors.ray_executor import RayExecutor

    cluster = ray_cluster.reached(address)
    try:
        nodes = cluster.nodes()
        with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
        gpus = int(options.device != "cpu" and bool(with_gpus) and draws)
        if options.device == "cuda" and not with_gpus:
            raise InputError("--device", expected="cpu or auto", got="cuda", hint="No node of the cluster has a GPU")
        shares = [int(node.get("CPU", 0) // node["GPU"]) for node in with_gpus] if gpus else [1]
        needs = ray_cluster.Needs(options.threads or max(1, min(shares)), gpus, options.memory or WORKER_BYTES)
        fit = sum(map(needs.fit, nodes))
        if not fit and options.count is None:
            raise InputError(
                f"--address {address}", expected=f"a node with {needs}", got=f"{len(nodes)} nodes, none of them such",
                hint="--threads and --memory ask for less; with --workers it is waited for",
            )  # fmt: skip
    except BaseException:
        cluster.close()
        raise
    device = options.device if gpus else "cpu"
    executor = RayExecutor(cluster, needs, place.logs, place.lock, options.count, most, device, options.memory)
    return executor, "cuda" if gpus else "cpu"


def _on_slurm(place: Place, options: WorkerOptions, most: int | None, draws: bool) -> tuple[Executor, str]:
    """A job a worker; with a GPU each where that is asked for and tasks run a model: none can be seen from here."""
    from lab.batch.executors import slurm

    count = options.count or MOST_WORKERS
    device = "cuda" if options.device == "cuda" and draws else "cpu"
    threads = options.threads or 1
    asked = {
        "cpus_per_task": threads, "mem_gb": -(-(options.memory or WORKER_BYTES) // 2**30),
        "gpus_per_node": int(device == "cuda"), "timeout_min": SLURM_MINUTES,
        **{f"slurm_{key}": value for key, value in options.slurm.items()},
    }  # fmt: skip
    jobs = slurm.submitter(place.logs / "slurm", asked)
    settings = {"threads": threads, "device": device, "memory": options.memory}
    folder = place.folder / ".batch" / "slurm"
    return slurm.SlurmExecutor(jobs, folder, count if most is None else min(count, most), settings), device


def gpu_numbers() -> tuple[int, ...]:
    """NVIDIA GPUs of this machine, without torch."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    found = subprocess.run([program, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return tuple(int(line) for line in found.stdout.split() if line.isdigit()) if found.returncode == 0 else ()


def _memory() -> int:
    from lab.commands.plan import machine_memory

    return machine_memory("cpu") or WORKER_BYTES

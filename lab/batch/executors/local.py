"""Worker processes of this machine: started when there is work, kept warm, replaced when they die."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lab.batch.executors.executor import Assignment, Report
from shared.errors import KinoformError

STARTS = 3  # of a worker, one after the other, that die before they do anything: then it is no accident
TAKEN_AWAY = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
TAIL = 400  # characters of a dead worker's last words
OOM_KILLS = Path("/sys/fs/cgroup/memory.events")


@dataclass
class Worker:
    """name: of it and of its log. variables: of its environment, besides ours."""

    name: str
    log: Path
    variables: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    assignment: Assignment | None = None
    unread: bytes = b""
    reported: bool = False
    failed_starts: int = 0


@dataclass
class LocalExecutor:
    """count: workers. threads: of each. device: as Context has it. gpus: numbers of GPUs, dealt out one a worker.
    memory: bytes of each worker at most, 0 for no limit. logs: folder for what they print.
    """

    logs: Path
    count: int = 1
    threads: int = 1
    device: str = "cpu"
    gpus: tuple[int, ...] = ()
    memory: int = 0
    workers: list[Worker] = field(init=False)
    _selector: selectors.BaseSelector = field(init=False, default_factory=selectors.DefaultSelector)
    _oom_kills: int = field(init=False, default_factory=lambda: oom_kills())

    def __post_init__(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        self.workers = [self._worker(number) for number in range(self.count)]

    def _worker(self, number: int) -> Worker:
        variables = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(self.threads)}
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = str(self.gpus[number % len(self.gpus)])
        name = f"worker-{number + 1}"
        return Worker(name, self.logs / f"{name}.log", variables)

    def free(self) -> list[str]:
        return [worker.name for worker in self.workers if worker.assignment is None]

    def give(self, worker: str, assignment: Assignment) -> None:
        chosen = next(each for each in self.workers if each.name == worker)
        if chosen.process is None or chosen.process.poll() is not None:
            self._start(chosen)
        chosen.assignment = assignment
        self._send(chosen, assignment.to_json())

    def cancel(self, token: int) -> None:
        for worker in self.workers:
            if worker.assignment is not None and worker.assignment.token == token:
                self._send(worker, {"cancel": token})

    def drop(self, token: int) -> None:
        for worker in self.workers:
            if worker.assignment is not None and worker.assignment.token == token and worker.process is not None:
                worker.process.kill()

    def poll(self, seconds: float) -> list[Report]:
        reports: list[Report] = []
        for key, _ in self._selector.select(seconds):
            worker: Worker = key.data
            data = os.read(key.fd, 1 << 16)
            if not data:
                reports += self._gone(worker)
                continue
            *lines, worker.unread = (worker.unread + data).split(b"\n")
            for line in lines:
                report = Report(**json.loads(line))
                worker.reported, worker.failed_starts = True, 0
                if report.event == "ended":
                    worker.assignment = None
                reports.append(report)
        return reports

    def close(self) -> None:
        for worker in self.workers:
            if worker.process is not None:
                worker.process.kill()
                self._reap(worker)
        self._selector.close()

    def _start(self, worker: Worker) -> None:
        command = [sys.executable, "-m", "lab.batch.executors.worker", self.device, str(self.memory)]
        with worker.log.open("ab") as log:
            worker.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
                env={**os.environ, **worker.variables},
            )  # fmt: skip
        worker.unread, worker.reported = b"", False
        self._selector.register(_pipe(worker.process.stdout), selectors.EVENT_READ, worker)

    def _send(self, worker: Worker, values: dict[str, object]) -> None:
        if worker.process is None:
            return
        try:
            pipe = _pipe(worker.process.stdin)
            pipe.write(json.dumps(values).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            return  # it is dead: `poll` hears of it

    def _gone(self, worker: Worker) -> list[Report]:
        """A worker has died: whose fault it was.

        Raises KinoformError where workers die as they start, again and again.
        """
        code = self._reap(worker)
        assignment, worker.assignment = worker.assignment, None
        if assignment is None:
            return []
        kills, before = oom_kills(), self._oom_kills
        self._oom_kills = kills
        if -code in TAKEN_AWAY and kills == before:
            return [Report(assignment.token, "gone", error="its worker was taken away")]
        worker.failed_starts += not worker.reported
        last = _tail(worker.log)
        if worker.failed_starts >= STARTS:
            raise KinoformError(f"{worker.name} cannot start", got=last, hint=f"See {worker.log}")
        died = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        why = "out of memory: the system ended its worker" if kills > before else f"its worker died: {died}"
        return [Report(assignment.token, "gone", error=f"{why} {last}".strip(), fault="work")]

    def _reap(self, worker: Worker) -> int:
        if worker.process is None:
            return 0
        self._selector.unregister(_pipe(worker.process.stdout))
        code = worker.process.wait()
        _pipe(worker.process.stdout).close()
        with suppress(BrokenPipeError):
            _pipe(worker.process.stdin).close()
        worker.process = None
        return code


def oom_kills() -> int:
    """How many processes the system has ended here for want of memory."""
    try:
        lines = OOM_KILLS.read_text().splitlines()
    except OSError:  # another system
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _tail(log: Path) -> str:
    """The last line of a log that says something."""
    try:
        lines = log.read_bytes()[-4096:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:TAIL] for line in reversed(lines) if line.strip()), "")

"""Reaching a Ray cluster: somebody's, by its address, or one of our own on this machine, for as long as the head lives.

Both ask for a token of whoever connects (Ray's token authentication); our own has a new one each time.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from shared.errors import InputError, KinoformError, one_line

OLDEST = (2, 52)  # whose clusters can ask for a token
CONNECT_SECONDS = 5.0
START_SECONDS = 150.0
END_SECONDS = 20.0
GONE_SECONDS = 20.0  # without an answer
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_NUM_REDIS_GET_RETRIES": "5",  # seconds in which a cluster must take our token
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # of what it prints among our lines: what has happened is said by the batch
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns of what will change
}
ALONE = {"RAY_memory_monitor_refresh_ms": "0"}  # who takes too much memory is found as for workers without Ray
INSTALL = "pip install 'kinoform[ray]'"


@dataclass(frozen=True)
class Needs:
    """What one worker takes of a node. memory: bytes."""

    cpus: int
    gpus: int
    memory: int

    def __str__(self) -> str:
        gpus = ", a GPU" if self.gpus else ""
        return f"{self.cpus} cores{gpus} and {self.memory / 2**30:.1f} GiB"

    def fit(self, resources: dict[str, float]) -> int:
        """How many workers a node of these resources can have."""
        pairs = (("CPU", self.cpus), ("GPU", self.gpus), ("memory", self.memory))
        return int(min(resources.get(name, 0) // needed for name, needed in pairs if needed))


@dataclass
class Cluster:
    """ray: the module, connected. address: HOST:PORT. keeper: the process that keeps a cluster of our own. lost_since:
    when its address was first found dead, by a clock that nobody sets.
    """

    ray: Any
    address: str
    keeper: subprocess.Popen[str] | None = None
    lost_since: float | None = None
    _nodes: list[dict[str, float]] = field(default_factory=list)

    @property
    def is_ours(self) -> bool:
        return self.keeper is not None

    def nodes(self) -> list[dict[str, float]]:
        """What each node that is there has, in all: CPU, GPU, memory in bytes, and more.

        Raises KinoformError where the cluster is gone: Ray itself would wait for it, and end this process silently.
        """
        if _is_there(self.address):
            self.lost_since = None
            self._nodes = [dict(node["Resources"]) for node in self.ray.nodes() if node["Alive"]]
        elif self.lost_since is None:
            self.lost_since = time.monotonic()
        elif time.monotonic() - self.lost_since >= GONE_SECONDS:
            hint = "Nothing is lost: the same command goes on, once it is there again"
            raise KinoformError(f"Ray's cluster at {self.address}", expected="an answer", got="none", hint=hint)
        return self._nodes

    def kill(self, actor: Any) -> None:
        """End an actor at once; of a cluster that does not answer, it ends with that."""
        if _is_there(self.address):
            self.ray.kill(actor)

    def close(self) -> None:
        """Leave it, and end it if it is ours. What is left of one that is gone ends with this process: as it ends, Ray
        ends this process, too.
        """
        if self.lost_since is None:
            self.ray.shutdown()
            if self.keeper is not None:
                _end(self.keeper)


def check(address: str | None) -> None:
    """What can be said before Ray is imported, of a cluster at an address or else one of our own. Raises InputError
    where Ray is not installed or too old, no token is here, or nobody at the address.
    """
    got = "none"
    if importlib.util.find_spec("ray") is not None:
        got = importlib.metadata.version("ray")
    if got == "none" or tuple(int(part) for part in got.split(".")[:2]) < OLDEST:
        raise InputError("--executor ray", expected="the package ray, 2.52 or newer", got=got, hint=INSTALL)
    if address is None:
        return
    file = Path.home() / ".ray" / "auth_token"
    if not (os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} or file.is_file()):
        hint = "Start its nodes with RAY_AUTH_MODE=token; ray get-auth-token --generate makes one"
        raise InputError(
            "--address", expected=f"the cluster's token in RAY_AUTH_TOKEN or {file}", got="none", hint=hint
        )
    if address != "auto":
        _knock(address)


def own(cpus: int, gpus: int, memory: int) -> Cluster:
    """A cluster of this machine alone, which ends with this process. memory: bytes that its workers share out.

    Raises KinoformError where it does not start.
    """
    _set({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), **ALONE, **QUIET})
    folder = tempfile.mkdtemp(prefix="kinoform-", dir="/tmp" if Path("/tmp").is_dir() else None)  # sockets: short
    command = [sys.executable, "-m", "lab.batch.executors.ray_keeper", folder, str(cpus), str(gpus), str(memory)]
    with tempfile.TemporaryFile("w+") as log:
        keeper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        try:
            address = _told(keeper, log)
            return Cluster(_connected(address), address, keeper)
        except BaseException:
            _end(keeper)
            raise


def _told(keeper: subprocess.Popen[str], log: IO[str]) -> str:
    """The address of the cluster that it keeps."""
    assert keeper.stdout is not None
    ready, _, _ = select.select([keeper.stdout], [], [], START_SECONDS)
    address = keeper.stdout.readline().strip() if ready else ""
    if not address:
        log.seek(0)
        said = [line.strip() for line in log if line.strip()]
        raise KinoformError("Ray's cluster on this machine does not start", got=said[-1] if said else "no word")
    return address


def reached(address: str) -> Cluster:
    """The cluster at HOST:PORT of which this machine is a node, or "auto" for the one that runs here.

    Raises InputError where there is none, or it does not take our token.
    """
    _set({"RAY_AUTH_MODE": "token", **QUIET})
    ray = _connected(address)
    return Cluster(ray, ray.get_runtime_context().gcs_address)


def _knock(address: str) -> None:
    """Ray itself would go on trying for a minute."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit() and "/" not in host):
        raise InputError("--address", expected="HOST:PORT or auto", got=address)
    if not _is_there(address):
        raise InputError("--address", expected="a Ray cluster", got=f"{address}, where nobody answers")


def _is_there(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError):
        return False
    return True


def _connected(address: str) -> Any:
    with _signals_kept(), _silence():
        ray: Any = importlib.import_module("ray")
        try:
            ray.init(address=address, log_to_driver=False, logging_level="CRITICAL", namespace="kinoform")
        except BaseException as error:
            with suppress(Exception):
                ray.shutdown()
            if not isinstance(error, Exception):
                raise
            first = one_line(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
            raise InputError(
                "--address", expected="a Ray cluster that takes our token, with this machine as one of its nodes",
                got=f"{address}: {first}",
            ) from error  # fmt: skip
    return ray


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing that compiled code prints as it begins is for our user; what matters comes as an error."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray answers SIGTERM in its own way; we have ours."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _set(variables: dict[str, str]) -> None:
    """Before Ray is imported, which reads them then."""
    os.environ.update(variables)


def _end(keeper: subprocess.Popen[str]) -> None:
    for pipe in (keeper.stdin, keeper.stdout):
        if pipe is not None:
            pipe.close()
    try:
        keeper.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()

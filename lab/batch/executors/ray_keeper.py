"""Keeps a Ray cluster on this machine for as long as its standard input is open: that is, as its head lives.

    python -m lab.batch.executors.ray_keeper FOLDER CPUS GPUS MEMORY

FOLDER: of the cluster, short (sockets lie in it), and removed at the end. MEMORY: bytes that workers may share out.
The address is printed once the cluster runs. Ray's own processes would outlive a head that is killed, some for minutes:
this one is told of all of them by the kernel, as the reaper of its orphans, and ends every one.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # of prctl(2)
START_SECONDS = 120.0
OBJECT_STORE_BYTES = 80 * 2**20  # orders and reports alone go through it
LOOK_SECONDS = 0.05


def main() -> int:
    folder, cpus, gpus, memory = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the head decides
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    process = _start(Path(folder), cpus, gpus, memory)
    try:
        address = _address(Path(folder), process)
        if address is None:
            return 1
        print(address, flush=True)
        sys.stdin.read()
    finally:
        process.kill()
        _end_all()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _start(folder: Path, cpus: str, gpus: str, memory: str) -> subprocess.Popen[bytes]:
    flags = {
        "port": "0", "node-ip-address": "127.0.0.1", "num-cpus": cpus, "num-gpus": gpus, "memory": memory,
        "include-dashboard": "false", "object-store-memory": str(OBJECT_STORE_BYTES), "temp-dir": str(folder),
        "system-config": json.dumps({"health_check_period_ms": 1000, "health_check_failure_threshold": 5}),
    }  # fmt: skip
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    return subprocess.Popen(
        [*command, *(f"--{name}={value}" for name, value in flags.items())],
        stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr,
    )  # fmt: skip


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str | None:
    """Of the cluster; None where it does not start."""
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError):
            address = (folder / "ray_current_cluster").read_text().strip()
            if address:
                return address
        time.sleep(LOOK_SECONDS)
    return None


def _end_all() -> None:
    """End all processes below this one; as one ends, those below it become children of this one."""
    while children := _children():
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in children:
            with suppress(ChildProcessError):
                os.waitpid(child, 0)


def _children() -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = file.read_text(errors="replace").rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.append(int(file.parent.name))
    return found


if __name__ == "__main__":
    sys.exit(main())

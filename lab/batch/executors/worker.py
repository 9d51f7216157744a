"""A worker process: assignments on its standard input, a line of JSON each; reports on its standard output.

It keeps the model that it used last. It ends with its head, however that ends: when its input closes, and on Linux by
the kernel's signal.
"""

from __future__ import annotations

import ctypes
import json
import operator
import os
import queue
import resource
import signal
import sys
import threading
from dataclasses import asdict
from functools import partial
from typing import IO, Any

PR_SET_PDEATHSIG = 1  # of prctl(2)


def main() -> int:
    """argv: the device, and the most bytes of memory; 0 for no limit."""
    device, memory = sys.argv[1], int(sys.argv[2])
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the head decides
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no report
    assignments: queue.Queue[dict[str, Any]] = queue.Queue()
    cancelled: set[int] = set()
    threading.Thread(target=_listen, args=(sys.stdin, assignments, cancelled), daemon=True).start()
    _work(out, assignments, cancelled, device)
    return 0


def _work(out: IO[str], assignments: queue.Queue[dict[str, Any]], cancelled: set[int], device: str) -> None:
    from lab.batch.executors.executor import Assignment
    from lab.batch.executors.perform import perform
    from lab.jobs.run import Context

    context = Context(device)
    while True:
        assignment = Assignment.from_json(assignments.get())
        context.batch = len(assignment.orders)
        is_cancelled = partial(operator.contains, cancelled, assignment.token)
        for report in perform(assignment, context, is_cancelled):
            print(json.dumps(asdict(report)), file=out, flush=True)


def _listen(lines: IO[str], assignments: queue.Queue[dict[str, Any]], cancelled: set[int]) -> None:
    for line in lines:
        values = json.loads(line)
        if "cancel" in values:
            cancelled.add(values["cancel"])
        else:
            assignments.put(values)
    os._exit(0)  # the head is gone


def _end_with_parent() -> None:
    """Python code may be far from its next line when the head dies; the kernel need not wait for it."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())

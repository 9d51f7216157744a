"""Clips by one batch against as many commands, one after the other, on this machine, in one run.

    python -m benchmarks.batch_speed [--count N] [--single N] [--ledger] [--json]

--ledger: instead, what the ledger takes without any rendering: enqueueing 10,000 tasks, whole commands on 1,000 and
10,000 that are done (medians of five, and their processor seconds), leases and counts of 100,000.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.batches import environment, hashes, kinoform
from benchmarks.report import Row, as_json, table
from lab.batch.ledger.enqueue import enqueue
from lab.batch.ledger.ledger import Ledger
from lab.batch.ledger.rows import Entry
from lab.batch.ledger.states import State

COUNT = 32
FEW, MANY = 1_000, 10_000  # tasks that are done
REPEATS = 5
MIB = 2**20
ENQUEUE = """
import time
from pathlib import Path
from lab.batch.content import entries
from lab.batch.ledger.enqueue import enqueue
from lab.batch.ledger.ledger import Ledger
from lab.batch.manifest import read_manifest
started = time.monotonic()
ledger = Ledger.open(Path("many.sqlite"))
enqueue(ledger, "many", entries(read_manifest("many.jsonl")), now=1)
print(time.monotonic() - started)
ledger.close()
"""


def clips(count: int, single: int) -> list[Row]:
    """Seconds of `count` clips as a batch, and as commands, of which `single` are run and timed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [{"prompt": "a red ball bouncing", "seed": seed, "name": f"s{seed}"} for seed in range(count)]
        (folder / "jobs.json").write_text(json.dumps({"version": 1, "defaults": {"kind": "clip"}, "jobs": jobs}))
        kinoform("clip", "a red ball bouncing", "--steps", "1", "-o", "warm.mp4", cwd=folder).check_returncode()
        started = time.monotonic()
        kinoform("batch", "run", "jobs.json", "--out", "out", cwd=folder).check_returncode()
        together = time.monotonic() - started
        started = time.monotonic()
        equal = 0
        made = hashes(folder / "out")
        for seed in range(single):
            kinoform("clip", "a red ball bouncing", "--seed", str(seed), "-o", f"s{seed}.mp4", cwd=folder)
            equal += (folder / f"s{seed}.mp4").read_bytes() == (folder / f"out/results/s{seed}.mp4").read_bytes()
        alone = (time.monotonic() - started) / single
    assert len(made) == count
    return [
        Row("batch, s", together, count, together, together),
        Row("one command, s", alone, single, alone, alone),
        Row("times as fast", alone * count / together, count, 0, 0, 3),
        Row("files that are the same, bit for bit", equal / single, single, 0, 0, 1),
    ]


def ledger() -> list[Row]:
    """What the ledger itself takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps({"prompt": "a red cube", "kind": "image", "seed": n}) for n in range(10_000)]
        (folder / "many.jsonl").write_text("\n".join(lines))
        told = subprocess.run(
            [sys.executable, "-c", ENQUEUE], cwd=folder, env=environment(), capture_output=True, text=True
        )
        rows = [Row("10,000 tasks into the ledger, s", float(told.stdout), 10_000, 0, 0, 3, at_most=True)]
        kinoform("image", "a red cube", "--steps", "1", "-o", "source.png", cwd=folder).check_returncode()
        rows += _done_again(folder, FEW, aim=2)
        rows += _done_again(folder, MANY, aim=None)
        rows += [
            *_timed(f"status of {MANY:,} done tasks", folder, ("batch", "status", "done"), 0.5),
            *_timed(f"check of {MANY:,} tasks", folder, ("batch", "check", "done.json"), None),
        ]
        rows += _hundred_thousand(folder)
    return rows


def _done_again(folder: Path, count: int, aim: float | None) -> list[Row]:
    """A manifest of tasks that are done, in folder/done: of equal work, so that one is made, and the others copied."""
    jobs = [{"kind": "upscale", "source": "source.png", "name": f"n{n}"} for n in range(count)]
    (folder / "done.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    again = ("batch", "run", "done.json", "--out", "done", "--workers", "1")
    kinoform(*again, cwd=folder).check_returncode()
    assert "made " not in kinoform(*again, cwd=folder).stdout, "nothing is left to make"
    return _timed(f"{count:,} done tasks again", folder, again, aim)


def _timed(name: str, folder: Path, command: tuple[str, ...], aim: float | None) -> list[Row]:
    """A command's seconds, from least to most, and those of processors."""
    walls, processors = [], []
    for _ in range(REPEATS):
        before, started = _processor_seconds(), time.monotonic()
        told = kinoform(*command, cwd=folder)
        walls.append(time.monotonic() - started)
        processors.append(_processor_seconds() - before)
        told.check_returncode()
    return [
        Row(f"{name}, s", median(walls), REPEATS, min(walls), max(walls), aim, at_most=True),
        Row(f"{name}, processor s", median(processors), REPEATS, min(processors), max(processors)),
    ]


def _processor_seconds() -> float:
    """Of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _hundred_thousand(folder: Path) -> list[Row]:
    out = folder / "huge"
    out.mkdir()
    base = Ledger.open(out / "batch.sqlite")
    rows = (
        Entry(f"n{n}", "image", {"prompt": "a red cube", "seed": n}, {}, f"n{n}.png", f"k{n}", f"m|image|{n % 1_000}")
        for n in range(100_000)
    )
    enqueue(base, "m", list(rows), now=1)
    wal, like = 0, ""
    leases = []
    for number in range(1, 2_001):
        started = time.monotonic()
        (row,) = base.lease("w", {}, now=1, like=like)
        leases.append(1000 * (time.monotonic() - started))
        like = row.affinity
        base.intend(row.number, row.token or 0, {row.output: ("0" * 64, 1, 1)})
        base.finish(row.number, row.token or 0, now=2)
        wal = max(wal, sum(file.stat().st_size for file in out.glob("*-wal")) if number % 50 == 0 else 0)
    assert base.counts()[State.DONE] == 2_000
    base.close()
    started = time.monotonic()
    told = kinoform("batch", "status", "huge", cwd=folder)
    seconds = time.monotonic() - started
    assert "2000 of 100000 done" in told.stdout, told.stdout + told.stderr
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        Row("a lease of 100,000 tasks, ms", median(leases), 2_000, min(leases), max(leases), 5, at_most=True),
        Row("status of 100,000 tasks, s", seconds, 100_000, 0, 0, 0.5, at_most=True),
        Row("most written ahead, MiB", wal / MIB, 2_000, 0, 0, 64, at_most=True),
        Row("this process with 100,000 tasks, MiB", peak, 100_000, 0, 0, 300, at_most=True),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=COUNT, metavar="N", help=f"clips (default {COUNT})")
    parser.add_argument(
        "--single", type=int, default=None, metavar="N", help="of them also alone, for the time (default all)"
    )
    parser.add_argument("--ledger", action="store_true", help="the ledger alone, nothing is rendered")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    args = parser.parse_args()
    rows = ledger() if args.ledger else clips(args.count, args.single or args.count)
    print(as_json(rows) if args.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a batch loses when its processes are killed: workers and heads at random moments, and at every ledger write.

    python -m benchmarks.batch_crash [--kills N] [--minutes N] [--tools] [--json]

A manifest of 60 tasks in chains (20 pictures and clips of the embedded model, each enlarged, each described) is made
undisturbed once; then again and again, in new folders, while SIGKILL hits a worker and the head in turn, until there
were so many kills, or so many minutes are over. And a small batch is made once for every write to its ledger, killed
at that write.

Counted are tasks that are lost; done twice; corrupt: their bytes are not those of the undisturbed run; charged with an
attempt; and begun again, which a kill of a worker does to what it was at, and one of a head to what all were at.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from benchmarks.batches import Seen, environment, hashes, kinoform, workers_of
from benchmarks.report import Row, as_json, table
from lab.batch.ledger.reader import Reader

KILLS = 200
PAUSE = 1 / 6  # the mean between two kills, as a share of what the undisturbed run takes
LOOK_SECONDS = 0.05  # between two looks at who is at what
# A head that kills itself as it has made so many commits to its ledger.
SUICIDAL = """
import os, signal, sys
from contextlib import contextmanager
from lab.batch.ledger.ledger import Ledger
from lab.main import main
left = int(sys.argv.pop(1))
plain = Ledger.transaction
@contextmanager
def counted(self):
    global left
    with plain(self):
        yield
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    if left == 0 and {after}:
        os.kill(os.getpid(), signal.SIGKILL)
Ledger.transaction = counted
code = main(sys.argv[1:])
print("commits", -left, file=sys.stderr)
sys.exit(code)
"""


@dataclass
class Found:
    """What went wrong, and how often something was killed. again: tasks begun again; redone: of these, tasks
    whose file was made already.
    """

    kills: Counter[str] = field(default_factory=Counter)
    again: int = 0
    redone: int = 0
    lost: int = 0
    twice: int = 0
    corrupt: int = 0
    left_running: int = 0
    charged: int = 0
    heads: int = 0

    def bad(self) -> int:
        return self.lost + self.twice + self.corrupt + self.left_running + self.charged


@dataclass
class Limits:
    """kills: the most. until: no more after it (`time.monotonic`). pause: seconds between two, on average."""

    kills: int
    until: float
    pause: float

    def reached(self, found: Found) -> bool:
        return found.kills.total() >= self.kills or time.monotonic() >= self.until


def manifest(folder: Path, *, tools: bool, pictures: int = 16, clips: int = 4, source: Path | None = None) -> Path:
    """60 tasks in chains of three. tools: a picture that is there, `source`, or is made, enlarged again and again."""
    if tools:
        if source is None:
            source = folder / "source.png"
            kinoform("image", "a red cube", "--steps", "2", "-o", str(source), cwd=folder).check_returncode()
        then = [{"kind": "upscale", "scale": 2, "then": [{"kind": "upscale", "scale": 2}]}]
        jobs = [{"kind": "upscale", "scale": 2 + n % 8, "source": str(source), "name": f"n{n}", "then": then}
                for n in range(pictures + clips)]  # fmt: skip
    else:
        then = [{"kind": "upscale", "then": [{"kind": "describe"}]}]
        jobs = [{"kind": "image", "steps": 6, "seed": seed, "prompt": "a red cube", "then": then}
                for seed in range(pictures)]  # fmt: skip
        jobs += [{"kind": "clip", "steps": 4, "frames": 4, "seed": seed, "prompt": "a red ball bouncing", "then": then}
                 for seed in range(clips)]  # fmt: skip
    path = folder / "jobs.json"
    path.write_text(json.dumps({"version": 1, "jobs": jobs}))
    return path


def crash(path: Path, wanted: dict[str, str], limits: Limits, seed: int, folder: Path) -> Found:
    """Rounds of the manifest in new folders, each finished in the end and compared."""
    draw = random.Random(seed)
    found = Found()
    turn = 0
    while not limits.reached(found):
        out = folder / f"round-{turn}"
        said = folder / f"said-{turn}.txt"
        turn += 1
        seen = Seen(out)
        while True:
            with said.open("ab") as log:
                command = [sys.executable, "-m", "lab.main", "batch", "run", str(path), "--out", str(out)]
                head = subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log)
            found.heads += 1
            _disturb(head, seen, draw, found, limits)
            found.left_running += sum(map(_outlives, seen.workers))
            seen.workers.clear()
            seen.look()
            if head.returncode != -signal.SIGKILL:
                break
        found.again += seen.again()
        found.redone += seen.redone()
        judge(out, said, wanted, found)
        shutil.rmtree(out)
        say(f"  {found.kills.total()} kills, {turn} rounds, {found.heads} heads, {found.bad()} faults")
    return found


def _disturb(head: subprocess.Popen[bytes], seen: Seen, draw: random.Random, found: Found, limits: Limits) -> None:
    """Kill workers and this head in turn, at random moments, until it ends."""
    next_kill = time.monotonic() + draw.expovariate(1 / limits.pause)
    while head.poll() is None:
        time.sleep(LOOK_SECONDS)
        alive = workers_of(head.pid)
        seen.workers.update(alive)
        seen.look()
        if time.monotonic() < next_kill or limits.reached(found):
            continue
        if found.kills["worker"] >= found.kills["head"]:
            head.kill()
            found.kills["head"] += 1
        elif alive:
            os.kill(draw.choice(alive), signal.SIGKILL)
            found.kills["worker"] += 1
        else:
            continue
        seen.look()
        next_kill = time.monotonic() + draw.expovariate(1 / limits.pause)
    head.wait()


def _outlives(pid: int) -> bool:
    """Whether a worker is still there a while after its head."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def judge(out: Path, said: Path, wanted: dict[str, str], found: Found) -> None:
    made = hashes(out)
    found.lost += len(wanted.keys() - made.keys())
    found.corrupt += sum(made.get(name, sha) != sha for name, sha in wanted.items()) + len(made.keys() - wanted.keys())
    lines = Counter(line for line in said.read_text().splitlines() if line.startswith("made "))
    found.twice += sum(count - 1 for count in lines.values())
    ledger = Reader.open(out / "batch.sqlite")
    found.charged += sum(row.attempts for row in ledger.each())
    ledger.close()


def at_every_write(path: Path, wanted: dict[str, str], folder: Path, step: int = 1) -> tuple[int, Found]:
    """A batch killed at each write to its ledger, before and after it is committed; how many writes there are."""
    found = Found()
    whole = _suicidal(path, folder / "whole", 10**6, after=False, folder=folder)
    writes = int(whole.stderr.split("commits")[-1]) + 10**6 if "commits" in whole.stderr else 0
    for number in range(0, writes, step):
        for after in (False, True):
            out = folder / "killed"
            killed = _suicidal(path, out, number + after, after=after, folder=folder)
            found.kills["write"] += killed.returncode == -signal.SIGKILL
            said = folder / "said-write.txt"
            last = kinoform("batch", "run", str(path), "--out", str(out), cwd=folder)
            said.write_text(killed.stdout + last.stdout)
            found.lost += last.returncode != 0
            judge(out, said, wanted, found)
            shutil.rmtree(out)
    return writes, found


def _suicidal(path: Path, out: Path, number: int, *, after: bool, folder: Path) -> subprocess.CompletedProcess[str]:
    program = SUICIDAL.format(after=after)
    return subprocess.run(
        [sys.executable, "-c", program, str(number), "batch", "run", str(path), "--out", str(out), "--workers", "1"],
        cwd=folder, capture_output=True, text=True, env=environment(),
    )  # fmt: skip


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_crash", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=KILLS, metavar="N", help=f"of workers and heads (default {KILLS})")
    parser.add_argument("--minutes", type=float, default=inf, metavar="N", help="of such kills at most (default: any)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    parser.add_argument("--tools", action="store_true", help="tasks without a model: quicker, and as many writes")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = manifest(folder, tools=args.tools)
        started = time.monotonic()
        kinoform("batch", "run", str(path), "--out", "plain", cwd=folder).check_returncode()
        took = time.monotonic() - started
        say(f"made undisturbed in {took:.0f} s; killing")
        limits = Limits(args.kills, time.monotonic() + 60 * args.minutes, took * PAUSE)
        found = crash(path, hashes(folder / "plain"), limits, args.seed, folder)
        say(f"  {found}; killing at every write")
        small = folder / "small"
        small.mkdir()
        few = manifest(small, tools=True, pictures=2, clips=0)
        kinoform("batch", "run", str(few), "--out", "plain", cwd=small).check_returncode()
        writes, at_writes = at_every_write(few, hashes(small / "plain"), small)
    rows = [
        Row("kills of workers", found.kills["worker"], 1, 0, 0), Row("kills of heads", found.kills["head"], 1, 0, 0),
        Row("writes of a small batch", writes, 1, 0, 0), Row("kills at a write", at_writes.kills["write"], 1, 0, 0),
    ]  # fmt: skip
    kills = found.kills.total()
    rows += [Row("tasks begun again", found.again, kills, 0, 0),
             Row("tasks made again", found.redone, kills, 0, 0, kills, at_most=True)]  # fmt: skip
    for what in ("lost", "twice", "corrupt", "left_running", "charged"):
        count = getattr(found, what) + getattr(at_writes, what)
        every = kills + at_writes.kills["write"]
        rows.append(Row(f"tasks {what.replace('_', ' ')}", count, every, 0, 0, 0, at_most=True))
    print(as_json(rows) if args.json else table(rows))
    return int(bool(found.bad() + at_writes.bad()))


if __name__ == "__main__":
    sys.exit(main())

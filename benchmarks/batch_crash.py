"""What a batch loses when its processes are killed: workers and heads at random moments, and at every ledger write.

    python -m benchmarks.batch_crash [--kills N] [--writes-only] [--tools] [--json]

A manifest of 60 tasks in chains (20 pictures and clips of the embedded model, each enlarged, each described) is made
undisturbed once; then again and again, in new folders, while SIGKILL hits a worker and the head in turn, until there
were so many kills. And a small batch is made once for every write to its ledger, killed at that write.
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
from pathlib import Path

from benchmarks.report import Row, as_json, table
from lab.batch.ledger.reader import Reader
from lab.batch.ledger.states import State
from shared.artifacts.files import sha256
from shared.errors import KinoformError

ROOT = Path(__file__).resolve().parents[1]
KILLS = 200
LONGEST = 900.0  # seconds of one head
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
    """What went wrong, and how often something was killed."""

    kills: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    twice: int = 0
    corrupt: int = 0
    left_running: int = 0
    charged: int = 0
    heads: int = 0

    def bad(self) -> int:
        return self.lost + self.twice + self.corrupt + self.left_running + self.charged


def manifest(folder: Path, *, tools: bool, pictures: int = 16, clips: int = 4, source: Path | None = None) -> Path:
    """60 tasks in chains of three. tools: of a picture that is there, `source`, or one that is made."""
    then = [{"kind": "upscale", "then": [{"kind": "describe"}]}]
    jobs = [
        {"kind": "image", "steps": 6, "seed": seed, "prompt": "a red cube", "then": then} for seed in range(pictures)
    ]
    jobs += [
        {"kind": "clip", "steps": 4, "frames": 4, "seed": seed, "prompt": "a red ball bouncing", "then": then}
        for seed in range(clips)
    ]
    if tools:
        if source is None:
            source = folder / "source.png"
            kinoform("image", "a red cube", "--steps", "2", "-o", str(source), cwd=folder).check_returncode()
        jobs = [{"kind": "upscale", "scale": 2 + n % 8, "source": str(source), "name": f"n{n}", "then": then}
                for n in range(pictures + clips)]  # fmt: skip
    path = folder / "jobs.json"
    path.write_text(json.dumps({"version": 1, "jobs": jobs}))
    return path


def kinoform(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lab.main", *arguments], cwd=cwd, capture_output=True, text=True,
                          env=environment())  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}


def hashes(out: Path) -> dict[str, str]:
    """sha256 of each result, by name."""
    return {file.name: sha256(file) for file in (out / "results").iterdir() if not file.name.startswith(".")}


def states(out: Path) -> Counter[State]:
    """None where there is no ledger yet."""
    try:
        ledger = Reader.open(out / "batch.sqlite")
    except KinoformError:
        return Counter()
    try:
        return Counter(ledger.counts())
    finally:
        ledger.close()


def workers_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "lab.batch.executors.worker" in line]


def crash(path: Path, wanted: dict[str, str], kills: int, seed: int, folder: Path) -> Found:
    """Rounds of the manifest in new folders until there were `kills`, each finished in the end and compared."""
    draw = random.Random(seed)
    found = Found()
    turn = 0
    while found.kills.total() < kills:
        out = folder / f"round-{turn}"
        said = folder / f"said-{turn}.txt"
        turn += 1
        while True:
            with said.open("ab") as log:
                command = [sys.executable, "-m", "lab.main", "batch", "run", str(path), "--out", str(out)]
                head = subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log)
            found.heads += 1
            mine = _disturb(head, draw, found, kills)
            for pid in mine:
                found.left_running += _outlives(pid)
            if head.returncode != -signal.SIGKILL:
                break
        judge(out, said, wanted, found)
        shutil.rmtree(out)
        say(f"  {found.kills.total()} kills, {turn} rounds, {found.heads} heads, {found.bad()} faults")
    return found


def _disturb(head: subprocess.Popen[bytes], draw: random.Random, found: Found, kills: int) -> set[int]:
    """Kill workers and this head in turn, at random moments, until it ends; the workers that it had."""
    until = time.monotonic() + LONGEST
    mine: set[int] = set()
    pause = draw.uniform(0.2, 8)
    since = time.monotonic()
    while head.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
        mine.update(workers_of(head.pid))
        if found.kills.total() >= kills or time.monotonic() - since < pause:
            continue
        since, pause = time.monotonic(), draw.uniform(0.2, 8)
        alive = workers_of(head.pid)
        if found.kills["worker"] < found.kills["head"] and alive:
            os.kill(draw.choice(alive), signal.SIGKILL)
            found.kills["worker"] += 1
        elif found.kills["worker"] >= found.kills["head"]:
            head.kill()
            found.kills["head"] += 1
    head.wait()
    return mine


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
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    parser.add_argument("--tools", action="store_true", help="tasks without a model: quicker, and as many writes")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = manifest(folder, tools=args.tools)
        plain = kinoform("batch", "run", str(path), "--out", "plain", cwd=folder)
        plain.check_returncode()
        say("made undisturbed; killing")
        found = crash(path, hashes(folder / "plain"), args.kills, args.seed, folder)
        small = folder / "small"
        small.mkdir()
        few = manifest(small, tools=True, pictures=2, clips=0)
        kinoform("batch", "run", str(few), "--out", "plain", cwd=small).check_returncode()
        writes, at_writes = at_every_write(few, hashes(small / "plain"), small)
    rows = [
        Row("kills of workers", found.kills["worker"], 1, 0, 0), Row("kills of heads", found.kills["head"], 1, 0, 0),
        Row("writes of a small batch", writes, 1, 0, 0), Row("kills at a write", at_writes.kills["write"], 1, 0, 0),
    ]  # fmt: skip
    for what in ("lost", "twice", "corrupt", "left_running", "charged"):
        count = getattr(found, what) + getattr(at_writes, what)
        rows.append(Row(f"tasks {what.replace('_', ' ')}", count, found.kills.total(), 0, 0, 0, at_most=True))
    print(as_json(rows) if args.json else table(rows))
    return int(bool(found.bad() + at_writes.bad()))


if __name__ == "__main__":
    sys.exit(main())

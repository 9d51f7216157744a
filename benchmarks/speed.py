"""How long the commands take, timed from outside, from start to exit.

python -m benchmarks.speed [--json] [--model FOLDER] [--skip-asset]
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.report import Row, as_json, table

PROMPT = "a red ball bouncing"


def timed(arguments: list[str]) -> float:
    """Seconds of one `kinoform ...`. Its output is shown when it fails."""
    script = Path(sys.executable).with_name("kinoform")
    command = [str(script)] if script.is_file() else [sys.executable, "-m", "lab.main"]
    started = time.monotonic()
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"kinoform {' '.join(arguments)} failed ({done.returncode}):\n{done.stderr}")
    return seconds


def median(metric: str, arguments: list[str], times: int, aim: float | None = None) -> Row:
    """The median of several runs, after a first that does not count; low and high are the extremes."""
    if times > 1:
        timed(arguments)
    seconds = []
    for _ in range(times):
        seconds.append(timed(arguments))
        print(f"  {metric}: {seconds[-1]:.2f} s", file=sys.stderr, flush=True)
    return Row(metric, float(np.median(seconds)), times, min(seconds), max(seconds), aim, at_most=True)


def at_once(metric: str, arguments: list[list[str]], alone: float) -> Row:
    """How many times as long as one command several take that start together; alone: seconds of one."""
    with ThreadPoolExecutor(len(arguments)) as pool:
        started = time.monotonic()
        list(pool.map(timed, arguments))
    ratio = (time.monotonic() - started) / alone
    return Row(metric, ratio, 1, ratio, ratio, 1.5, at_most=True)


def machine() -> dict[str, object]:
    """What the times depend on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": cpu,
        "cores": usable,
        "python": platform.python_version(),
        "torch": version("torch"),
        "diffusers": version("diffusers"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="world")
    parser.add_argument("--skip-asset", action="store_true", help="leave the longest one out")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = ["--model", args.model]
        rows = [
            median("kinoform --help, s", ["--help"], 5, 0.5),
            median("kinoform clip --help, s", ["clip", "--help"], 5, 0.5),
            median("kinoform image, s", ["image", "a red cube", "-o", f"{folder}/a.png", *model], 3),
            median("kinoform clip, 16 frames, s", ["clip", PROMPT, "-o", f"{folder}/a.mp4", *model], 2, 15),
        ]
        two = [["clip", PROMPT, "-o", f"{folder}/{name}.mp4", *model] for name in ("b", "c")]
        rows.append(at_once("two clips at once / one", two, rows[-1].value))
        if not args.skip_asset:
            command = ["asset", "a blue chair", "-o", f"{folder}/a.glb", "--turntable", f"{folder}/turn.mp4", *model]
            rows.append(median("kinoform asset with a turntable, s", command, 1, 120))
    about = machine()
    if args.json:
        print(as_json(rows, machine=about))
    else:
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        print(table(rows).replace("95% interval", " extremes   "))
    return 0


if __name__ == "__main__":
    sys.exit(main())

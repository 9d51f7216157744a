"""How much memory sampling takes, each case in a process of its own: a clip of 16 frames, longer ones by windows.

python -m benchmarks.memory [--json] [--model FOLDER] [--steps N]

The figure is the most memory that the process ever held, less the most it had held before it sampled: its libraries,
the model, and one frame that is made first, so that code which comes into memory with its first use counts for none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from benchmarks.report import Row, as_json, table
from benchmarks.speed import machine

PROMPT = "a red ball bouncing"
AIM = 1.3  # times the memory of 16 frames, for 64 by windows
CASES: dict[str, dict[str, int]] = {
    "16 frames": {"frames": 16},
    "32 frames": {"frames": 32},
    "32 frames, window 16": {"frames": 32, "window": 16},
    "64 frames": {"frames": 64},
    "64 frames, window 16": {"frames": 64, "window": 16},
}


def measure(model: str, steps: int, settings: dict[str, int]) -> int:
    """Bytes that a clip of these settings takes. In this process, whose peak never falls: once a process."""
    from lab.show.console import peak_memory
    from video.generate import generate_clip, load_video_model
    from video.recipe import ClipRecipe

    loaded = load_video_model(model)

    def make(**changes: int) -> int:
        for _ in generate_clip(loaded, ClipRecipe(prompt=PROMPT, model=model, **changes)):
            pass
        return peak_memory()["peak_memory_bytes"]

    before = make(frames=1, steps=1)
    return make(steps=steps, **settings) - before


def in_a_process(model: str, steps: int, settings: dict[str, int]) -> float:
    """`measure`, in MiB, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--model", model, "--steps", str(steps)]
    done = subprocess.run([*command, "--case", json.dumps(settings)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{settings} failed ({done.returncode}):\n{done.stderr}")
    return int(done.stdout) / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="world")
    parser.add_argument("--steps", type=int, default=2, help="denoising steps; all take the same memory")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case is not None:
        print(measure(args.model, args.steps, args.case))
        return 0
    taken = {}
    for name, settings in CASES.items():
        taken[name] = in_a_process(args.model, args.steps, settings)
        print(f"  {name}: {taken[name]:.0f} MiB", file=sys.stderr, flush=True)
    base = taken["16 frames"]
    rows = [Row(f"{name}, MiB", value, 1, value, value) for name, value in taken.items()]
    for name in list(CASES)[1:]:
        ratio, aim = taken[name] / base, AIM if "window" in name else None
        rows.append(Row(f"{name}, of 16 frames", ratio, 1, ratio, ratio, aim, at_most=True))
    if args.json:
        print(as_json(rows, machine=machine()))
    else:
        print(", ".join(f"{key} {value}" for key, value in machine().items()))
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Many prompts in one command against one command for each: how much faster, and whether the files are the same.

python -m benchmarks.many_prompts [--prompts FILE] [--count N] [--single-commands N] [--json]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.report import Row, as_json, share, table
from benchmarks.speed import machine, timed
from lab.jobs.prompts import read_prompts

OBJECTS = ("cube", "chair", "duck", "house", "teapot", "tree", "robot", "mushroom", "mug", "fish")
PROMPTS = [f"a {colour} {thing}" for thing in OBJECTS for colour in ("red", "blue")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_prompts", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="a prompt a line (negatives and seeds are left out); without it 20 of ours",
    )
    parser.add_argument("--count", type=int, default=4, metavar="N", help="seeds of each prompt")
    parser.add_argument(
        "--single-commands", type=int, metavar="N", help="how many of the pictures to make alone, evenly chosen: all"
    )
    parser.add_argument("--model", default="world")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    args = parser.parse_args()
    prompts = [asked.prompt for asked in read_prompts(str(args.prompts))] if args.prompts else PROMPTS
    pictures = [(prompt, seed) for prompt in prompts for seed in range(args.count)]
    chosen = np.linspace(0, len(pictures) - 1, args.single_commands or len(pictures)).round().astype(int)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed, alone = folder / "prompts.txt", folder / "alone.png"
        listed.write_text("\n".join(prompts) + "\n", encoding="utf-8")
        timed(["image", prompts[0], "-o", str(alone), "--model", args.model])  # warms the disk's cache
        flags = ["--prompts", str(listed), "--count", str(args.count), "--model", args.model]
        together = timed(["image", *flags, "-o", str(folder / "{index}.png")])
        made = sorted(folder.glob("[0-9]*.png"), key=lambda path: int(path.stem))
        assert len(made) == len(pictures), f"{len(made)} files for {len(pictures)} pictures"
        seconds, equal = [], []
        for index in chosen:
            prompt, seed = pictures[index]
            seconds.append(timed(["image", prompt, "--seed", str(seed), "-o", str(alone), "--model", args.model]))
            equal.append(alone.read_bytes() == made[index].read_bytes())
    single = float(np.mean(seconds))
    n = len(pictures)
    rows = [
        Row("one command for all, s", together, n, together, together),
        Row("one command for each, s a picture", single, len(seconds), min(seconds), max(seconds)),
        Row("times as fast", single * n / together, n, min(seconds) * n / together, max(seconds) * n / together, 5),
        share("files equal byte for byte", equal, 1),
    ]
    print(as_json(rows, machine=machine()) if args.json else table(rows).replace("95% interval", " extremes   "))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Whether plans are true: the peak that `kinoform plan` says beside the one that the command then has.

python -m benchmarks.plan_truth [--json] [--model FOLDER] [--only NAME ...]

Every run and every plan is a process of its own. The video forward is of networks of the size of Stable Diffusion 1.5
with random weights, over 16 frames of 32x32 latents: it takes about 6 GB and, on two cores, a few minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Row, as_json, table
from benchmarks.speed import machine
from lab.commands.train import STAGES
from shared.model import resolve_model

PROMPT = "a red ball bouncing"
WITHIN = 0.2  # of the measured peak
FORWARD = {"frames": 16, "side": 32, "tokens": 77}


def kinoform(*arguments: str) -> dict:
    """The JSON of one `kinoform ...`."""
    return process("-m", "lab.main", *arguments, "--json")


def process(*arguments: str) -> dict:
    """The last line that a Python process prints, which is JSON. Its errors are shown when it fails."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed ({done.returncode}):\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def command(*arguments: str, output: str) -> Callable[[Path], tuple[int, int]]:
    """A measurement of a generating command: (planned, measured) bytes."""

    def measure(folder: Path) -> tuple[int, int]:
        planned = kinoform("plan", *arguments)["planned"]["peak_bytes"]
        return planned, kinoform(*arguments, "-o", str(folder / output))["peak_memory_bytes"]

    return measure


def training(stage: str, model: str, steps: int = 4) -> Callable[[Path], tuple[int, int]]:
    """A measurement of a stage, on samples of the world that are made for it, into a copy of the model."""

    def measure(folder: Path) -> tuple[int, int]:
        data, out = folder / "data", folder / "model"
        shutil.copytree(resolve_model(model), out)
        kinoform("world", "render", "--out", str(data), "--count", "8", *(["--clips"] if stage == "video" else []))
        flags = ["--data", str(data), "--steps", str(steps)]
        planned = kinoform("plan", "train", stage, *flags)["planned"]["peak_bytes"]
        return planned, kinoform("train", stage, *flags, "--out", str(out))["peak_memory_bytes"]

    return measure


def forward(_folder: Path) -> tuple[int, int]:
    """A measurement of one pass of a video network as large as Stable Diffusion 1.5's."""
    planned, measured = (process("-m", "benchmarks.plan_truth", "--part", part) for part in ("plan", "run"))
    return planned["peak"], measured["peak"]


def part(name: str) -> dict[str, int]:
    """What the processes of `forward` do: plan it, or run it and say how much memory they had."""
    import torch

    from lab.console import peak_memory
    from video.plan import STABLE_DIFFUSION_1, build_video_network, forward_inputs, plan_forward

    if name == "plan":
        return {"peak": plan_forward(STABLE_DIFFUSION_1, **FORWARD).peak}
    network = build_video_network(STABLE_DIFFUSION_1)
    with torch.no_grad():
        network(*forward_inputs(STABLE_DIFFUSION_1, **FORWARD))
    return {"peak": peak_memory()["peak_memory_bytes"]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_truth", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="world")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of them")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    parser.add_argument("--part", choices=("plan", "run"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(part(args.part)))
        return 0
    model = ["--model", args.model]
    cases = {
        "image": command("image", PROMPT, *model, output="a.png"),
        "clip": command("clip", PROMPT, *model, output="a.mp4"),
        "clip-long": command("clip", PROMPT, "--preset", "long", *model, output="a.mp4"),
        "clip-128": command("clip", PROMPT, "--size", "128x128", "--steps", "3", *model, output="a.mp4"),
        "asset-draft": command("asset", "a red cube", "--preset", "draft", *model, output="a.glb"),
        "asset-default": command("asset", "a red cube", *model, output="a.glb"),
        **{f"train-{stage}": training(stage, args.model) for stage in STAGES},
        "forward-sd1": forward,
    }
    rows = []
    for name in args.only or cases:
        if name not in cases:
            raise SystemExit(f"--only: expected {', '.join(cases)}, got {name}")
        with tempfile.TemporaryDirectory() as folder:
            planned, measured = cases[name](Path(folder))
        print(
            f"  {name}: planned {planned / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB", file=sys.stderr, flush=True
        )
        rows += [
            Row(f"{name}: planned, MB", planned / 1e6, 1, planned / 1e6, planned / 1e6),
            Row(f"{name}: measured, MB", measured / 1e6, 1, measured / 1e6, measured / 1e6),
            Row(f"{name}: error of the plan", abs(planned / measured - 1), 1, planned / measured - 1,
                planned / measured - 1, WITHIN, at_most=True),
        ]  # fmt: skip
    about = machine()
    if args.json:
        print(as_json(rows, machine=about))
    else:
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        print(table(rows).replace("95% interval", "    signed  "))
    return 0


if __name__ == "__main__":
    sys.exit(main())

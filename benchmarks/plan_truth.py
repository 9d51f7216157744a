"""Whether plans are true: the peak that `kinoform plan` says beside the one that the command then has.

python -m benchmarks.plan_truth [--json] [--model FOLDER] [--only NAME ...]

All presets that are shipped; stages of training on a few samples of the world and for a few steps, the fine asset for
a few steps, too, since all steps take the same memory. Where this machine is calibrated (`kinoform plan calibrate`),
times are compared as well. Every run and every plan is a process of its own. The video forward is of networks of the
size of Stable Diffusion 1.5 with random weights, over 16 frames of 32x32 latents: about 6 GB and, on two cores, a few
minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Row, as_json, table
from benchmarks.speed import machine
from shared.models.source import resolve_model
from shared.recipe import preset_names

PROMPT = "a red ball bouncing"
WITHIN = 0.2  # of the measured peak
BESIDE = ("load", "write", "turntable", "total")  # parts of a run that its plan has no time for
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


class Truth(NamedTuple):
    """Bytes, and seconds without imports, loading and writing; None where they are not known."""

    planned: int
    measured: int
    planned_seconds: float | None = None
    measured_seconds: float | None = None

    @classmethod
    def of(cls, plan: dict, run: dict) -> Truth:
        work = sum(seconds for name, seconds in run["seconds"].items() if name not in BESIDE)
        return cls(plan["planned"]["peak_bytes"], run["peak_memory_bytes"], plan["planned"]["seconds"], work)


Measure = Callable[[Path], Truth]


def command(*arguments: str, output: str, also: Sequence[str] = ()) -> Measure:
    """A measurement of a generating command. also: arguments that the plan does not know."""

    def measure(folder: Path) -> Truth:
        extra = [argument.format(folder=folder) for argument in also]
        return Truth.of(kinoform("plan", *arguments), kinoform(*arguments, "-o", str(folder / output), *extra))

    return measure


def training(preset: str, model: str, steps: int = 6) -> Measure:
    """A measurement of a stage, on samples of the world that are made for it, into a copy of the model."""
    stage = preset.partition("-")[0]

    def measure(folder: Path) -> Truth:
        data, out = folder / "data", folder / "model"
        shutil.copytree(resolve_model(model), out)
        kinoform("world", "render", "--out", str(data), "--count", "16", *(["--clips"] if stage == "video" else []))
        flags = ["--preset", preset, "--data", str(data), "--steps", str(steps)]
        flags += ["--model", model] if stage in ("image", "video") else []
        return Truth.of(kinoform("plan", "train", stage, *flags), kinoform("train", stage, *flags, "--out", str(out)))

    return measure


def forward(_folder: Path) -> Truth:
    """A measurement of one pass of a video network as large as Stable Diffusion 1.5's."""
    planned, measured = (process("-m", "benchmarks.plan_truth", "--part", part) for part in ("plan", "run"))
    return Truth(planned["peak"], measured["peak"])


def cases(source: str) -> dict[str, Measure]:
    model = ["--model", source]
    turntable = ["--turntable", "{folder}/turn.mp4"]
    few = ["--steps", "10"]
    pictures = {
        f"{kind}-{preset}".removesuffix("-"): command(
            kind, PROMPT, *(["--preset", preset] if preset else []), *model, output=output
        )
        for kind, output in (("image", "a.png"), ("clip", "a.mp4"))
        for preset in ("", *preset_names(kind))
    }
    return {
        **pictures,
        "clip-128": command("clip", PROMPT, "--size", "128x128", "--steps", "3", *model, output="a.mp4"),
        **{
            f"asset-{p}": command(
                "asset", "a red cube", "--preset", p, *model, *(few if p == "fine" else []),
                output="a.glb", also=turntable,
            )
            for p in preset_names("asset")
        },
        **{f"train-{p}": training(p, source) for p in preset_names("train")},
        "forward-sd1": forward,
    }  # fmt: skip


def rows_of(name: str, found: Truth) -> Iterator[Row]:
    def plain(what: str, value: float) -> Row:
        return Row(f"{name}: {what}", value, 1, value, value)

    yield plain("planned, MB", found.planned / 1e6)
    yield plain("measured, MB", found.measured / 1e6)
    error = found.planned / found.measured - 1
    yield Row(f"{name}: error of the plan", abs(error), 1, error, error, WITHIN, at_most=True)
    if found.planned_seconds is not None and found.measured_seconds is not None:
        yield plain(
            f"time as planned of {found.measured_seconds:.1f} s", found.planned_seconds / found.measured_seconds
        )


def part(name: str) -> dict[str, int]:
    """What the processes of `forward` do: plan it, or run it and say how much memory they had."""
    import torch

    from lab.show.console import peak_memory
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
    known = cases(args.model)
    rows: list[Row] = []
    for name in args.only or known:
        if name not in known:
            raise SystemExit(f"--only: expected {', '.join(known)}, got {name}")
        with tempfile.TemporaryDirectory() as folder:
            found = known[name](Path(folder))
        print(f"  {name}: {found}", file=sys.stderr, flush=True)
        rows += rows_of(name, found)
    about = machine()
    if args.json:
        print(as_json(rows, machine=about))
    else:
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        print(table(rows).replace("95% interval", "    signed  "))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`kinoform train all`: every stage that a data folder needs, one after the other, in the time there is."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from lab import device
from lab.flags import Parser, add_command, add_device_flag
from lab.outputs import check_folder, existing_folder, whole_number
from lab.show.console import Console
from lab.training.data_look import captions_of, look, warn_of_length
from lab.training.own_data import PLAN, Plan, fineness_of, plan_stages, read_plan, write_plan
from shared.errors import InputError
from shared.latents.sizes import check_multiple

NAME = "all"
HELP = "Train every stage that the data needs: autoencoder, image, video where there are clips, scorer."
MINUTES, SIZE = 60.0, 64


def add_parser(stages: Any) -> None:
    parser: Parser = add_command(stages, NAME, run, HELP)
    parser.add_argument("--data", metavar="DIR", required=True, help="folder of pictures or clips with captions")
    parser.add_argument("--out", metavar="DIR", required=True, help="the model folder to make")
    parser.add_argument("--minutes", metavar="X", help=f"time for all stages together (default {MINUTES:g})")
    parser.add_argument("--size", metavar="N", help=f"side of the pictures in pixels (default {SIZE})")
    parser.add_argument(
        "--start", metavar="{embedded,new}", help="go on from the embedded model (default), or begin with nothing"
    )
    parser.add_argument("--seed", metavar="N", help="the same seed and steps give the same model (default 0)")
    parser.add_argument("--resume", action="store_true", default=False, help="go on with the training in OUT")
    add_device_flag(parser)


def run(args: argparse.Namespace) -> None:
    data = existing_folder("--data", args.data)
    out = check_folder("--out", args.out)
    device.check(args.device)
    console = Console(as_json=args.json)
    plan = _earlier(args, data, out) if args.resume else None
    if plan is None:
        plan = _new(args, data, out, console)
    if plan.done:
        console.say("already done")
    else:
        with console.if_interrupted("the same command with --resume goes on from the last checkpoint"):
            _train(plan, out, device.pick(args.device), console)
    console.result(
        _closing(plan, out), outputs=[out], seed=plan.seed, stages=[stage.model_dump() for stage in plan.stages]
    )  # fmt: skip


def _earlier(args: argparse.Namespace, data: Path, out: Path) -> Plan | None:
    """The plan to go on with; InputError where its data or a flag that is given are others."""
    plan = read_plan(out)
    if plan is None:
        raise InputError("resume", expected=f"{PLAN} in {out}", got="none", hint="Start without --resume.")
    given = {"data": str(data.resolve()), **_flags(args)}
    for name, value in given.items():
        if value != getattr(plan, name):
            raise InputError(f"--{name} with --resume", expected=str(getattr(plan, name)), got=str(value))
    return plan


def _flags(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, as the plan holds them."""
    given: dict[str, Any] = {}
    if hasattr(args, "minutes"):
        given["minutes"] = _minutes(args.minutes)
    if hasattr(args, "size"):
        given["size"] = whole_number("--size", args.size, 8, 4096)
        check_multiple("--size", given["size"], 8)
    if hasattr(args, "start"):
        if args.start not in ("embedded", "new"):
            raise InputError("--start", expected="embedded or new", got=args.start)
        given["start"] = args.start
    if hasattr(args, "seed"):
        given["seed"] = whole_number("--seed", args.seed, 0, 2**63 - 1)
    return given


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= 100_000:
        raise InputError("--minutes", expected="a number above 0, up to 100000", got=text)
    return minutes


def _new(args: argparse.Namespace, data: Path, out: Path, console: Console) -> Plan:
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        hint = "--resume goes on with the training there." if (out / PLAN).is_file() else "Give a new folder."
        raise InputError("--out", expected="an empty folder", got=str(out), hint=hint)
    chosen: dict[str, Any] = {"minutes": MINUTES, "size": SIZE, "seed": 0, "start": "embedded"} | _flags(args)
    found = look(console, data)
    from lab.training.stages import GOOD_PSNR, embedded_psnr, keep_autoencoder
    from shared.models.prompts.vocabulary import LONGEST

    warn_of_length(console, captions_of(found), LONGEST)
    good = False
    if chosen["start"] == "embedded":
        psnr = embedded_psnr(data, chosen["size"])
        good = psnr >= GOOD_PSNR
        what = "kept" if good else "trained on"
        console.say(f"the embedded autoencoder shows the data at {psnr:.1f} dB (good: {GOOD_PSNR:g}); it is {what}")
    if good:
        keep_autoencoder(out)
    clips = any(group.kind == "clip" for group in found.groups)
    stages = plan_stages(chosen["minutes"], clips=clips, autoencoder=not good, joint=chosen["start"] == "new")
    lengths = [seen.frames for group in found.groups if group.kind in ("clip", "start") for seen in group.seen]
    plan = Plan(data=str(data.resolve()), stages=stages, fineness=fineness_of(lengths), **chosen)
    write_plan(plan, out)
    return plan


def _train(plan: Plan, out: Path, where: str, console: Console) -> None:
    from lab.training.stages import PREVIEWS, run_stage

    console.say("stages: " + ", ".join(f"{stage.name} {stage.minutes:.1f} min" for stage in plan.stages))
    for stage in plan.stages:
        if not stage.done:
            state = run_stage(plan, stage, out, where, console)
            numbers = "".join(f", {name} {value:.2f}" for name, value in state.metrics.items())
            sheet = out / PREVIEWS / f"{stage.name}.png"
            console.say(f"{stage.name}: {state.step} steps, loss {state.loss:.4f}{numbers}. See {sheet}")


def _closing(plan: Plan, out: Path) -> list[str]:
    """Where the model is, and the command that uses it, with a caption of the data."""
    from shared.training.data.groups import read_data

    caption = captions_of(read_data(Path(plan.data)))[0]
    kind = "clip" if any(stage.name == "video" for stage in plan.stages) else "image"
    name = "clip.mp4" if kind == "clip" else "picture.png"
    minutes = sum(stage.seconds or 0.0 for stage in plan.stages) / 60
    return [
        f"trained all: {', '.join(stage.name for stage in plan.stages)} in {minutes:.0f} minutes. It is in {out}",
        f"try: kinoform {kind} {shlex.quote(caption)} --model {shlex.quote(str(out))} -o {name}",
    ]

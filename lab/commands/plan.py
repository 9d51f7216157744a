"""`kinoform plan clip | image | asset | train STAGE | calibrate`: what a command will take, before it is started."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import device
from lab.commands.train import STAGES
from lab.flags import Parser, add_command, add_device_flag, add_recipe_flags, parse_recipe
from lab.kinds import kinds
from lab.kinds.kind import Planner, Savings
from lab.outputs import existing_folder, parse_size
from lab.show.amounts import as_size
from lab.show.console import Console
from shared.errors import InputError
from shared.recipe import Recipe
from shared.training.personalise.recipe import ConceptRecipe

if TYPE_CHECKING:
    from shared.plan.estimate import Estimate


def add_parser(commands: Any, name: str, help: str) -> None:
    plan = commands.add_parser(name, help=help, description=help)
    planned = plan.add_subparsers(title="what to plan", metavar="COMMAND", dest="planned", required=True)
    for kind, recipe in ((name, kind.recipe) for name, kind in kinds().items()):
        parser = add_command(planned, kind, partial(run, kind, recipe, None), f"What `kinoform {kind}` will take.")
        parser.add_argument("prompt", metavar="PROMPT", help="what to show, in words")
        add_recipe_flags(parser, recipe, kind=kind)
        add_device_flag(parser)
        _add_memory_flag(parser)
    train = planned.add_parser("train", help="What `kinoform train` will take.")
    stages = train.add_subparsers(title="stages", metavar="STAGE", dest="stage", required=True)
    for stage, (stage_recipe, _) in STAGES.items():
        if issubclass(stage_recipe, ConceptRecipe):
            continue  # it takes little more than the model does
        parser = add_command(stages, stage, partial(run, "train", stage_recipe, stage), f"Plan to train {stage}.")
        parser.add_argument("--data", metavar="DIR", default=None, help="what to train on; it takes memory, too")
        add_recipe_flags(parser, stage_recipe, kind="train", preset=stage)
        add_device_flag(parser)
        _add_memory_flag(parser)
    parser = add_command(planned, "calibrate", calibrate, "Measure this machine, so that plans have times.")
    add_device_flag(parser)


def _add_memory_flag(parser: Parser) -> None:
    parser.add_argument("--memory", metavar="SIZE", default=None, help="memory there is, such as 8G (default: all)")


def run(kind: str, recipe_class: type[Recipe], stage: str | None, args: argparse.Namespace) -> None:
    """Print the estimate. Raises InputError where it is above the memory there is, naming what would make it fit."""
    wanted = device.check(args.device)
    memory = None if args.memory is None else parse_size(args.memory)
    recipe = parse_recipe(recipe_class, args, kind=kind, preset=stage)
    data = existing_folder("--data", args.data) if getattr(args, "data", None) else None
    console = Console(as_json=args.json)
    where = device.pick(wanted)
    planner, savings = kinds()[kind].planner(where) if stage is None else stage_planner_of(stage, where, data)
    with console.timed("plan"):
        estimate = planner(recipe)
    budget = machine_memory(where) if memory is None else memory
    if budget is not None and estimate.peak > budget:
        raise does_not_fit(stage or kind, recipe, estimate.peak, budget, planner, savings)
    from shared.plan import calibration

    known = calibration.load(calibration.place(where))
    seconds = None if known is None or estimate.weights_alone else known.seconds(estimate)
    console.result(
        report(estimate, budget, seconds),
        outputs=[],
        device=where,
        planned={"peak_bytes": estimate.peak, "weights_bytes": estimate.weights,
                 "activations_bytes": estimate.activations, "kinds": dict(estimate.kinds),
                 "flops": estimate.flops, "seconds": seconds, "memory_bytes": budget},
    )  # fmt: skip


def calibrate(args: argparse.Namespace) -> None:
    """Measure and keep; the plans of this user on this machine have times from then on."""
    console = Console(as_json=args.json)
    where = device.pick(args.device)
    from shared.plan import calibration

    with console.timed("calibrate"):
        found = calibration.calibrate(where)
    path = calibration.place(where)
    calibration.save(found, path)
    lines = [
        f"{found.single / 1e9:.0f} GFLOP/s in float32, {found.half / 1e9:.0f} in bfloat16, "
        f"{found.small / 1e9:.0f} GB/s in small operations, {found.large / 1e9:.1f} in large ones, "
        f"{found.overhead * 1e6:.1f} us for each; a network takes {found.slowdown:.1f} times as long as these make it",
        f"wrote {path}",
    ]
    console.result(lines, outputs=[path])


def stage_planner_of(stage: str, where: str, data: Path | None) -> tuple[Planner, Savings]:
    """`Kind.planner` for a training stage. data: the folder to train on, where it is known."""
    from shared.training.data.arrays import DataSize, data_size

    size = DataSize() if data is None else data_size(data)
    if stage == "video":
        from video.plan import plan_video_training, video_training_savings

        return partial(plan_video_training, device=where, data=size), video_training_savings
    from shared.plan import training

    planners: dict[str, Callable[..., Estimate]] = {
        "autoencoder": training.plan_autoencoder_training,
        "image": training.plan_image_training,
        "scorer": training.plan_scorer_training,
    }
    return partial(planners[stage], device=where, data=size), training.picture_training_savings


def does_not_fit(what: str, recipe: Any, peak: int, budget: int, planner: Planner, savings: Savings) -> InputError:
    """The refusal, with the first setting that would make the recipe fit: one alone, or else several together."""
    together: dict[str, Any] = {}
    alone = list(savings(recipe))
    for change in alone:
        if (smaller := planner(recipe.model_copy(update=change)).peak) <= budget:
            return _refusal(what, peak, budget, f"{as_flags(change, recipe)} takes {as_size(smaller)}")
    for change in alone:
        together |= change
        if (smaller := planner(recipe.model_copy(update=together)).peak) <= budget:
            return _refusal(what, peak, budget, f"{as_flags(together, recipe)} takes {as_size(smaller)}")
    return _refusal(what, peak, budget, "No setting makes it fit; a smaller model would")


def _refusal(what: str, peak: int, budget: int, hint: str) -> InputError:
    return InputError(
        f"memory for {what}", expected=f"a peak of at most {as_size(budget)}", got=as_size(peak), hint=hint
    )


def report(estimate: Estimate, budget: int | None, seconds: float | None) -> Iterator[str]:
    """The estimate in lines for people."""
    yield f"weights      {as_size(estimate.weights)}"
    if estimate.weights_alone:
        yield "more is not known of a diffusers pipeline before it runs: what it computes with, how long it takes"
        return
    yield f"activations  {as_size(estimate.activations)}, workspace and allocator included"
    parts = ", ".join(f"{kind} {as_size(size)}" for kind, size in sorted(estimate.kinds.items()))
    of = "" if budget is None else f" of {as_size(budget)}"
    yield f"peak         {as_size(estimate.peak)}{of} on {estimate.device}: {parts}"
    yield f"work         {estimate.flops / 1e12:.3g} TFLOP"
    if seconds is None:
        yield "time         not known before `kinoform plan calibrate` has measured this machine, once"
    else:
        yield f"time         about {seconds:.0f} s by this machine's calibration, loading and writing aside"


def as_flags(change: dict[str, Any], recipe: Recipe) -> str:
    """A change of a recipe as the command line has it."""
    flags = []
    for name, value in change.items():
        if name == "width":
            flags.append(f"--size {value}x{change['height']}")
        elif value is True:
            flags.append("--" + name.replace("_", "-"))
        elif name != "height":
            flags.append(f"--{name.replace('_', '-')} {value}")
    return " ".join(flags)


def machine_memory(where: str) -> int | None:
    """Bytes of the device's memory; None where the system does not tell."""
    if where == "cuda":
        import torch

        return torch.cuda.get_device_properties(0).total_memory
    if sys.platform == "win32":
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

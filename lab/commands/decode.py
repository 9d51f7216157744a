"""`kinoform decode`: the file that a sampled clip or picture would have become, from the latents that were kept."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab import device
from lab.flags import add_command, add_device_flag, add_memory_flags
from lab.jobs.run import Context, Job, check
from lab.kinds import Output, kind_of_record
from lab.show.console import Console
from lab.show.run import show_run
from shared.errors import InputError

SETTINGS = ("decode", "decode_frames", "precision", "offload", "channels_last")


def add_parser(commands: Any, name: str, help: str) -> None:
    parser = add_command(commands, name, run, help)
    parser.add_argument("file", metavar="FILE", help="a file NAME.latents.safetensors")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write (default NAME)")
    parser.add_argument("--model", metavar="TEXT", help="where the model is now, if it has moved")
    add_memory_flags(parser, SETTINGS)
    add_device_flag(parser)


def run(args: argparse.Namespace) -> None:
    from shared.artifacts.run_record import LATENTS_SUFFIX, read_record

    if Path(args.file).suffix.lower() != ".safetensors":
        raise InputError(f"file {args.file}", expected="kept latents, NAME.latents.safetensors", got="another")
    record = read_record(args.file)
    if not (hasattr(args, "output") or args.file.endswith(LATENTS_SUFFIX)):
        raise InputError("decode", expected="-o FILE", got="nothing", hint=f"{args.file} does not tell")
    output = getattr(args, "output", args.file.removesuffix(LATENTS_SUFFIX))
    given = {name: getattr(args, name) for name in (*SETTINGS, "model") if hasattr(args, name)}
    recipe = kind_of_record(record, f"file {args.file}").recipe.parse({**record.recipe, **given})
    job = Job(recipe, Output(output), earlier=record, latents=args.file)
    context = Context(device.check(args.device))
    check([job], context)
    show_run(Console(as_json=args.json), [job], context)

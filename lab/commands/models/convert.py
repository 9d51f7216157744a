"""`kinoform convert`: pickles and single files to safetensors in diffusers' layout."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab.flags import add_command
from lab.show.console import Console
from shared.errors import InputError

EXAMPLES = (
    "kinoform convert old.ckpt new.safetensors",
    "kinoform convert sd15.safetensors models/sd15",
    "kinoform convert models/with-bin-files models/safe",
)
PREDICTIONS = ("epsilon", "v_prediction")


def add_parser(commands: Any, name: str, help: str) -> None:
    parser = add_command(commands, name, run, help, EXAMPLES)
    parser.add_argument("source", metavar="IN", help="a pickle, a .safetensors file, or a folder with pickles")
    parser.add_argument("out", metavar="OUT", help="a new .safetensors file, or a new folder")
    parser.add_argument(
        "--prediction-type",
        metavar=f"{{{','.join(PREDICTIONS)}}}",
        help="what the UNet of a single file predicts (default: what the file says, or else does)",
    )


def run(args: argparse.Namespace) -> None:
    predicts = getattr(args, "prediction_type", None)
    if predicts not in (None, *PREDICTIONS):
        raise InputError("--prediction-type", expected=" or ".join(PREDICTIONS), got=predicts)
    console = Console(as_json=args.json)
    from shared.models.layouts.convert import convert

    with console.timed("convert"):
        notes = convert(Path(args.source).expanduser(), Path(args.out).expanduser(), predicts)
    for note in notes:
        console.warn(note)
    console.result([f"wrote {args.out}"], outputs=[args.out])

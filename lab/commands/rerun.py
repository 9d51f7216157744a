"""`kinoform rerun`: the same file again, from the record it carries."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dreamfusion.files.formats import ASSET_SUFFIXES
from dreamfusion.recipe import AssetRecipe
from lab import device
from lab.artifact import Run
from lab.commands import asset, clip, image
from lab.console import Console
from lab.flags import add_command, add_device_flag, add_memory_flags
from shared.errors import InputError
from shared.image_recipe import ImageRecipe
from video.recipe import ClipRecipe

NAME = "rerun"
HELP = "Make a file again from the record it carries; the same bytes here."


def add_parser(commands: Any) -> None:
    parser = add_command(commands, NAME, run, HELP)
    parser.add_argument("file", metavar="FILE", help="a file that kinoform made")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write (default FILE's name with -rerun)")
    parser.add_argument("--model", metavar="TEXT", help="where the model is now, if it has moved")
    add_memory_flags(parser, ("offload",))
    add_device_flag(parser)


def run(args: argparse.Namespace) -> None:
    from shared.run_record import read_record

    file = Path(args.file)
    file = file if file.name else file.resolve()  # "." has no name
    record = read_record(file)
    output = getattr(args, "output", str(file.with_name(f"{file.stem}-rerun{file.suffix}")))
    # Where the model lies and what idle weights take may differ on another machine; what is computed may not.
    values = {**record.recipe, **{name: getattr(args, name) for name in ("model", "offload") if hasattr(args, name)}}
    this = Run(Console(as_json=args.json), device.check(args.device), earlier=record)
    if record.command == "clip":
        clip.make(this, ClipRecipe.parse(values), output)
    elif record.command == "image":
        image.make(this, ImageRecipe.parse(values), output)
    elif record.command == "asset" and Path(output).suffix.lower() in ASSET_SUFFIXES:
        asset.make(this, AssetRecipe.parse(values), output)
    elif record.command == "asset":
        asset.make(this, AssetRecipe.parse(values), None, turntable=output)
    else:
        raise InputError(f"file {file}", expected="a record of clip, image or asset", got=record.command)

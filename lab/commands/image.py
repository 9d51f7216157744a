"""`kinoform image`: a prompt to a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab import device
from lab.artifact import Run
from lab.console import Console
from lab.flags import add_command, add_device_flag, add_output_flag, add_recipe_flags, parse_recipe
from shared.files import check_writable
from shared.image_recipe import ImageRecipe

NAME = "image"
HELP = "Make a picture from a prompt."


def add_parser(commands: Any) -> None:
    parser = add_command(commands, NAME, run, HELP)
    add_recipe_flags(parser, ImageRecipe, kind="image")
    add_output_flag(parser, "out.png", ".png, .jpg or .webp")
    add_device_flag(parser)


def run(args: argparse.Namespace) -> None:
    recipe = parse_recipe(ImageRecipe, args, kind="image")
    make(Run(Console(as_json=args.json), device.check(args.device)), recipe, args.output)


def make(this: Run, recipe: ImageRecipe, output: str) -> None:
    """Write the picture that `recipe` describes to `output`."""
    from shared.media import IMAGE_SUFFIXES, TAG, write_image

    check_writable(output, IMAGE_SUFFIXES)
    from shared.images import generate_image
    from shared.model import load_image_model

    model = this.load(load_image_model, recipe)
    record = this.record("image", recipe, model)
    last = this.console.follow("sample", generate_image(model, recipe))
    assert last.images is not None  # the last state has them
    with this.console.timed("write"):
        write_image(output, last.images[0], {TAG: record.to_json()})
    this.finish([f"wrote {output}"], record, [Path(output)])

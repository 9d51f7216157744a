"""`kinoform image`: a prompt to a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import device
from lab.artifact import Run
from lab.console import Console
from lab.flags import add_command, add_device_flag, add_output_flag, add_recipe_flags, parse_recipe
from shared.files import check_writable
from shared.image_recipe import ImageRecipe

if TYPE_CHECKING:
    from torch import Tensor

    from shared.model import ImageModel
    from shared.run_record import RunRecord

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
    from shared.media import IMAGE_SUFFIXES

    check_writable(output, IMAGE_SUFFIXES)
    this.check(recipe)
    from shared.images import sample_images
    from shared.model import load_image_model

    model = this.load(load_image_model, recipe)
    record = this.record("image", recipe, model)
    states = sample_images(model, [recipe.prompt], [recipe.seed], recipe, this.where())
    latents = this.console.follow("sample", states).latents
    with this.latents_kept(output, latents, record):
        write(this, model, latents, recipe, record, output)


def write(this: Run, model: ImageModel, latents: Tensor, recipe: ImageRecipe, record: RunRecord, output: str) -> None:
    """Decode the latents of one picture, "1 c h w", and write it."""
    from shared.images import decode_images
    from shared.media import TAG, write_image
    from shared.pixels import to_uint8

    with this.console.timed("decode"):
        picture = to_uint8(decode_images(model, latents, recipe, this.where()))[0]
    with this.console.timed("write"):
        write_image(output, picture, {TAG: record.to_json()})
    this.finish([f"wrote {output}"], record, [Path(output)])

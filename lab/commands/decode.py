"""`kinoform decode`: the file that a sampled clip or picture would have become, from the latents that were kept."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from lab import device
from lab.artifact import Run
from lab.commands import clip, image
from lab.console import Console
from lab.flags import add_command, add_device_flag, add_memory_flags
from lab.outputs import check_clip
from shared.errors import InputError
from shared.files import check_writable
from shared.image_recipe import ImageRecipe
from video.recipe import ClipRecipe

if TYPE_CHECKING:
    from torch import Tensor

    from shared.model import ImageModel

NAME = "decode"
HELP = "Decode the latents that a failed clip or image has left."

SETTINGS = ("decode", "decode_frames", "precision", "offload", "channels_last")


def add_parser(commands: Any) -> None:
    parser = add_command(commands, NAME, run, HELP)
    parser.add_argument("file", metavar="FILE", help="a file NAME.latents.safetensors")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write (default NAME)")
    parser.add_argument("--model", metavar="TEXT", help="where the model is now, if it has moved")
    add_memory_flags(parser, SETTINGS)
    add_device_flag(parser)


def run(args: argparse.Namespace) -> None:
    from shared.media import IMAGE_SUFFIXES
    from shared.run_record import LATENTS_SUFFIX, read_record

    record = read_record(args.file)
    if not (hasattr(args, "output") or args.file.endswith(LATENTS_SUFFIX)):
        raise InputError("decode", expected="-o FILE", got="nothing", hint=f"{args.file} does not tell")
    output = getattr(args, "output", args.file.removesuffix(LATENTS_SUFFIX))
    given = {name: getattr(args, name) for name in (*SETTINGS, "model") if hasattr(args, name)}
    this = Run(Console(as_json=args.json), device.check(args.device), earlier=record)
    if record.command == "clip":
        recipe = ClipRecipe.parse({**record.recipe, **given})
        check_clip(output, recipe.fps)
        this.check(recipe)
        model, latents = _load(this, recipe, args.file)
        clip.write(this, model, latents, recipe, this.record("clip", recipe, model), output)
    elif record.command == "image":
        picture = ImageRecipe.parse({**record.recipe, **given})
        check_writable(output, IMAGE_SUFFIXES)
        this.check(picture)
        model, latents = _load(this, picture, args.file)
        image.write(this, model, latents, picture, this.record("image", picture, model), output)
    else:
        raise InputError(f"file {args.file}", expected="latents of a clip or image", got=record.command)


def _load(this: Run, recipe: ClipRecipe | ImageRecipe, file: str) -> tuple[ImageModel, Tensor]:
    from shared.latents_file import load_latents
    from shared.model import load_image_model

    latents = load_latents(file)
    return this.load(load_image_model, recipe), latents

"""`kinoform clip`: a prompt to a clip."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import device
from lab.artifact import Run
from lab.console import Console
from lab.flags import add_command, add_device_flag, add_output_flag, add_recipe_flags, parse_recipe
from lab.outputs import check_clip
from video.recipe import ClipRecipe

if TYPE_CHECKING:
    from torch import Tensor

    from shared.model import ImageModel
    from shared.run_record import RunRecord

NAME = "clip"
HELP = "Make a clip from a prompt."


def add_parser(commands: Any) -> None:
    parser = add_command(commands, NAME, run, HELP)
    add_recipe_flags(parser, ClipRecipe, kind="clip")
    add_output_flag(parser, "out.mp4", ".mp4, .webm, .mov, .gif, .webp, .apng, or a folder for PNGs")
    add_device_flag(parser)


def run(args: argparse.Namespace) -> None:
    recipe = parse_recipe(ClipRecipe, args, kind="clip")
    make(Run(Console(as_json=args.json), device.check(args.device)), recipe, args.output)


def make(this: Run, recipe: ClipRecipe, output: str) -> None:
    """Write the clip that `recipe` describes to `output`."""
    check_clip(output, recipe.fps)
    this.check(recipe)
    from video.generate import load_video_model, sample_latents

    model = this.load(load_video_model, recipe)
    record = this.record("clip", recipe, model.image)
    latents = this.console.follow("sample", sample_latents(model, [recipe], this.where())).latents
    with this.latents_kept(output, latents, record):
        write(this, model.image, latents, recipe, record, output)


def write(this: Run, model: ImageModel, latents: Tensor, recipe: ClipRecipe, record: RunRecord, output: str) -> None:
    """Decode the latents of one clip, "1 c t h w", and write it."""
    from shared.media import TAG, write_clip
    from video.generate import decode_clips

    with this.console.timed("decode"):
        frames = decode_clips(model, latents, recipe.memory, this.where())[0]
    with this.console.timed("write"):
        write_clip(output, frames, recipe.fps, {TAG: record.to_json()})
    this.finish([f"wrote {output}"], record, [Path(output)], frames=recipe.frames, fps=recipe.fps)

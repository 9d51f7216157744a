"""`kinoform clip`: a prompt to a clip."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab import device
from lab.artifact import Run
from lab.console import Console
from lab.flags import add_command, add_device_flag, add_output_flag, add_recipe_flags, parse_recipe
from lab.outputs import check_clip
from video.recipe import ClipRecipe

NAME = "clip"
HELP = "Make a clip from a prompt."


def add_parser(commands: Any) -> None:
    parser = add_command(commands, NAME, run, HELP)
    add_recipe_flags(parser, ClipRecipe, kind="clip")
    add_output_flag(parser, "out.mp4", ".mp4, .webm, .gif, or a folder for PNGs")
    add_device_flag(parser)


def run(args: argparse.Namespace) -> None:
    recipe = parse_recipe(ClipRecipe, args, kind="clip")
    make(Run(Console(as_json=args.json), device.check(args.device)), recipe, args.output)


def make(this: Run, recipe: ClipRecipe, output: str) -> None:
    """Write the clip that `recipe` describes to `output`."""
    check_clip(output, recipe.fps)
    from shared.media import TAG, write_clip
    from video.generate import generate_clip, load_video_model

    model = this.load(load_video_model, recipe)
    record = this.record("clip", recipe, model.image)
    last = this.console.follow("sample", generate_clip(model, recipe))
    assert last.frames is not None  # the last state has them
    with this.console.timed("write"):
        write_clip(output, last.frames[0], recipe.fps, {TAG: record.to_json()})
    this.finish([f"wrote {output}"], record, [Path(output)], frames=recipe.frames, fps=recipe.fps)

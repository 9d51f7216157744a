"""`kinoform asset`: a prompt to a mesh, and a clip of it turning."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dreamfusion.recipe import AssetRecipe
from lab import device
from lab.artifact import Run
from lab.console import Console
from lab.flags import add_command, add_device_flag, add_output_flag, add_recipe_flags, parse_recipe
from lab.outputs import MESH_SUFFIXES, check_clip
from shared.files import check_writable

NAME = "asset"
HELP = "Make a 3D asset from a prompt."


def add_parser(commands: Any) -> None:
    parser = add_command(commands, NAME, run, HELP)
    add_recipe_flags(parser, AssetRecipe, kind="asset")
    add_output_flag(parser, "asset.glb", ".glb, .obj or .ply")
    parser.add_argument(
        "--turntable", metavar="FILE", help="also write a clip of it turning: .mp4, .webm, .mov, .gif, .webp, .apng"
    )
    add_device_flag(parser)


def run(args: argparse.Namespace) -> None:
    recipe = parse_recipe(AssetRecipe, args, kind="asset")
    this = Run(Console(as_json=args.json), device.check(args.device))
    make(this, recipe, args.output, getattr(args, "turntable", None))


def make(this: Run, recipe: AssetRecipe, output: str | None, turntable: str | None = None) -> None:
    """Write the asset that `recipe` describes to `output`, and its turntable clip to `turntable`, where given."""
    if output:
        check_writable(output, MESH_SUFFIXES)
    if turntable:
        check_clip(turntable, recipe.turntable_fps)
    this.check(recipe)
    from dreamfusion.asset import export_asset, write_asset
    from dreamfusion.distill import distill
    from dreamfusion.turntable import turntable as turned
    from dreamfusion.views import view_prompts
    from shared.media import TAG, write_clip
    from shared.model import load_image_model

    model = this.load(load_image_model, recipe)
    record = this.record("asset", recipe, model, list(view_prompts(recipe.prompt).values()))
    last = this.console.follow("distill", distill(model, recipe, this.where()))
    with this.console.timed("mesh"):
        asset = export_asset(last.scene, recipe)
    lines = []
    if output:
        with this.console.timed("write"):
            write_asset(output, asset.mesh, record)
        lines.append(f"wrote {output}: {asset.report.line()}")
    if turntable:
        with this.console.timed("turntable"):
            frames = turned(asset.mesh, frames=recipe.turntable_frames, size=recipe.turntable_size)
            write_clip(turntable, frames, recipe.turntable_fps, {TAG: record.to_json()})
        lines.append(f"wrote {turntable}")
    outputs = [Path(path) for path in (output, turntable) if path]
    this.finish(lines, record, outputs, mesh=asset.report.to_dict())

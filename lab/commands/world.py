"""`kinoform world render | mesh`: the procedural world as a data set, or one exact mesh of it."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamfusion.mesh.files.formats import ASSET_SUFFIXES
from lab.flags import add_command
from lab.outputs import check_folder, check_mesh, whole_number
from lab.show.console import Console
from shared.errors import InputError
from world.prompt import SPLITS, Composition, Kind

NAMES = {"images": "pictures", "clips": "clips", "views": "sets of views", "starts": "clips"}


@dataclass(frozen=True)
class Written:
    """`step` of `total` samples are written."""

    step: int
    total: int


def add_parser(commands: Any, name: str, help: str) -> None:
    world = commands.add_parser(name, help=help, description=help)
    actions = world.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)

    render = add_command(actions, "render", run_render, "Render pictures or clips with captions (captions.jsonl).")
    render.add_argument("--out", metavar="DIR", required=True, help="an empty or new folder")
    render.add_argument("--count", metavar="N", required=True, help="how many samples")
    kinds = render.add_mutually_exclusive_group()
    kinds.add_argument("--clips", action="store_true", default=False, help="clips instead of pictures")
    kinds.add_argument("--views", action="store_true", default=False, help="views from all around, each set a clip")
    kinds.add_argument(
        "--starts", action="store_true", default=False, help="clips that start from a picture of any kind, to be given"
    )
    render.add_argument("--frames", metavar="N", default=None, help="frames of a clip, or views (default 16)")
    render.add_argument("--jobs", metavar="N", default=None, help="processes that render (default: one a core)")
    render.add_argument("--seed", metavar="N", default="0", help="the random numbers' seed (default 0)")
    render.add_argument(
        "--split", metavar="{" + ",".join(SPLITS) + "}", default="train", help="which compositions (default train)"
    )

    mesh = add_command(actions, "mesh", run_mesh, "Write the exact mesh of what a caption describes.")
    mesh.add_argument("caption", metavar="CAPTION", help='such as "a red cube on top of a blue sphere"')
    mesh.add_argument("-o", "--output", metavar="FILE", required=True, help=" ".join(ASSET_SUFFIXES))


def run_render(args: argparse.Namespace) -> None:
    count = whole_number("--count", args.count, 1, 10_000_000)
    seed = whole_number("--seed", args.seed, 0, 2**63 - 1)
    kind: Kind = next((kind for kind in ("clips", "views", "starts") if getattr(args, kind)), "images")
    if args.frames is not None and kind == "images":
        raise InputError("--frames", expected="--clips, --views or --starts beside it", got=args.frames)
    frames = whole_number("--frames", args.frames or "16", 2, 2_000)
    jobs = whole_number("--jobs", args.jobs or str(os.cpu_count() or 1), 1, 1_000)
    if args.split not in SPLITS:
        raise InputError("--split", expected=" or ".join(SPLITS), got=args.split)
    out = check_folder("--out", args.out)
    if out.exists() and any(out.iterdir()):
        raise InputError("--out", expected="a new or empty folder", got=args.out)
    console = Console(as_json=args.json)
    from world.dataset import write_dataset

    done = write_dataset(out, count, kind=kind, seed=seed, split=args.split, frames=frames, jobs=jobs)
    console.follow("render", (Written(number, count) for number in done))
    console.result([f"wrote {count} {NAMES[kind]} to {out}"], outputs=[out], count=count, seed=seed)


def run_mesh(args: argparse.Namespace) -> None:
    composition = Composition.parse(args.caption)
    check_mesh(args.output)
    output = Path(args.output)
    console = Console(as_json=args.json)
    with console.timed("mesh"):
        from world.mesh import scene_mesh
        from world.scene import arrange

        mesh = scene_mesh(arrange(composition))
    with console.timed("write"):
        from dreamfusion.mesh.files.write import write_mesh
        from dreamfusion.mesh.report import mesh_report

        write_mesh(output, mesh)
        report = mesh_report(mesh)
    caption = composition.caption()
    line = f"wrote {output}: {caption}, {report.line()}"
    console.result([line], outputs=[output], caption=caption, mesh=report.to_dict())

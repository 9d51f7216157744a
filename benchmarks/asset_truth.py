"""Assets against the exact geometry and colours of what their prompts name.

    python -m benchmarks.asset_truth [PROMPT ...] [--model M] [--set KEY=VALUE ...] [--true-views N] [--out DIR]

`benchmarks.world_truth` asks for held-out prompts with the recipe's own defaults; this asks for given ones with other
values. With --true-views nothing is generated: a field is fitted to N exact views, which says what a fit alone can do.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from einops import rearrange

from benchmarks.judge import Judge, as_asked
from benchmarks.report import Row, mean, share, table
from benchmarks.truth.geometry import (
    Distance,
    Similarity,
    Solid,
    align,
    chamfer,
    exact_silhouettes,
    held_out_cameras,
    mesh_silhouettes,
    sample_cube,
    silhouette_iou,
    surface_points,
    volumetric_iou,
)
from dreamfusion.asset import export_asset
from dreamfusion.distill import ViewsState, distill
from dreamfusion.fit import Pictures, fit, resized, ring
from dreamfusion.mesh.files.write import write_mesh
from dreamfusion.mesh.turntable import render_mesh
from dreamfusion.optimise import DistillState
from dreamfusion.recipe import AssetRecipe
from dreamfusion.scene import new_scene
from dreamfusion.views import around
from lab.kinds.view_teacher import views_of
from shared.artifacts.contact_sheet import contact_sheet
from shared.artifacts.media import write_image
from shared.errors import KinoformError
from shared.models.image_model import ImageModel, load_image_model
from world.mesh import scene_mesh, surface_colours
from world.prompt import Composition
from world.render import render
from world.scene import Instance, arrange, objects_by_name, random_views, scene_distance

FRONT_WITHIN = 45.0  # degrees between where a front is and where it should be
JUDGED_VIEWS = 4
PICTURE_SIZE = 64  # of the world's
OVERSAMPLING = 4  # of exact views: smoothed as `render` does, silhouettes are half a pixel too wide
PROMPTS = ("a yellow duck", "a blue chair", "a red mushroom", "a green car")


@dataclass(frozen=True)
class AssetMeasure:
    """One asset. Lengths after alignment, in world units; colour_error: mean RGB distance, of at most sqrt 3."""

    silhouette_iou: float
    volumetric_iou: float
    chamfer: float
    colour_error: float
    recognised: bool
    recognised_views: tuple[bool, ...]
    watertight: bool
    pose: Similarity


# No mesh came out: nothing about it is right, and lengths that it does not have are left out of their means.
FAILED = AssetMeasure(0.0, 0.0, math.nan, math.nan, False, (False,) * JUDGED_VIEWS, False, Similarity())


def exact_distance(instances: tuple[Instance, ...]) -> Distance:
    """Signed distance of numpy points to the union of `instances`."""

    def distance(points: np.ndarray) -> np.ndarray:
        parts = torch.from_numpy(points.astype(np.float32)).split(1 << 17)
        return torch.cat([scene_distance(instances, part).amin(dim=-1) for part in parts]).double().numpy()

    return distance


def measure_mesh(judge: Judge, mesh: trimesh.Trimesh, wanted: Composition) -> AssetMeasure:
    """Everything about one mesh."""
    instances = arrange(wanted)
    distance = exact_distance(instances)
    pose = align(distance, mesh)
    placed = pose.moved(mesh)
    cameras = held_out_cameras()
    overlap = silhouette_iou(mesh_silhouettes(placed, cameras), exact_silhouettes(distance, cameras))
    points, colours = surface_points(placed)
    exact_points, _ = surface_points(scene_mesh(instances))
    exact_colours = surface_colours(instances, torch.from_numpy(points).float())[:, :3] / 255.0
    seen = judge.look(judged_views(mesh, pair=wanted.other is not None))
    together = seen.merged([range(JUDGED_VIEWS)])  # a thing is one thing from all sides
    return AssetMeasure(
        silhouette_iou=float(overlap.mean()),
        volumetric_iou=volumetric_iou(distance, Solid(mesh, 96), pose, sample_cube(64, seed=1)),
        chamfer=chamfer(points, exact_points),
        colour_error=float(np.linalg.norm(colours - exact_colours, axis=1).mean()),
        recognised=bool(as_asked([wanted], together.named())[0]),
        recognised_views=tuple(as_asked([wanted] * JUDGED_VIEWS, seen.named()).tolist()),
        watertight=bool(mesh.is_watertight),
        pose=pose,
    )


def judged_views(mesh: trimesh.Trimesh, size: int = 64, *, pair: bool = False) -> np.ndarray:
    """Renders of the mesh from front, right, back and left, a little from above and off the axes, "4 h w 3".

    pair: all from about the front, as pictures of two things are: from elsewhere one hides the other, and what was on
    the left is on the right.
    """
    start, span = (-20.0, 50.0) if pair else (20.0, 360.0)
    return render_mesh(mesh, around(JUDGED_VIEWS, size, elevation=20.0, start=start, span=span))


def true_pictures(wanted: Composition, count: int, seed: int) -> Pictures:
    """What a perfect teacher would sample of `wanted`: `count` exact views, placed and lit as `seed` draws it."""
    views = ring(count, PICTURE_SIZE)
    frames = [
        replace(frame, instances=arrange(wanted), elevation=views.elevation[0], azimuth=azimuth)
        for frame, azimuth in zip(random_views(wanted, np.random.default_rng(seed), count), views.azimuth, strict=True)
    ]
    pixels = rearrange(render(frames, OVERSAMPLING * PICTURE_SIZE).pixels, "n h w c -> n c h w")
    return Pictures(views, resized(pixels.float() / 127.5 - 1, PICTURE_SIZE))


def fitted_to_truth(wanted: Composition, recipe: AssetRecipe) -> Iterator[DistillState]:
    """A fit to exact views in place of sampled ones; no distillation after it."""
    return fit(new_scene(recipe), true_pictures(wanted, recipe.fit_views, recipe.seed), recipe)


def measure_assets(
    judge: Judge, model: ImageModel, wanted: Sequence[Composition], out: Path | None, say: Callable[[str], None],
    changes: Mapping[str, Any] = {},
) -> list[Row]:  # fmt: skip
    """Distils every prompt and measures the meshes; the i-th has seed i. changes: of the recipe's own defaults."""
    views = views_of(model)

    def make(_: Composition, recipe: AssetRecipe) -> Iterator[DistillState | ViewsState]:
        return distill(model, recipe, views=views)

    return measure_made(judge, make, wanted, out, say, {**changes, "model": model.name})


def measure_pair_assets(
    judge: Judge, model: ImageModel, wanted: Sequence[Composition], out: Path | None, say: Callable[[str], None]
) -> list[Row]:
    """`measure_assets` of two objects each: how well they fit the exact ones, and whether all is as it was asked."""
    rows = {row.metric: row for row in measure_assets(judge, model, wanted, out, say)}
    return [
        replace(rows["assets, silhouette IoU"], metric="assets of two objects, silhouette IoU", aim=None),
        replace(rows["assets, colour error (RGB distance)"], metric="assets of two objects, colour error"),
        replace(
            rows["assets, object and colour, 4 sides together"],
            metric="assets of two objects, both recognised, with their relation",
            aim=0.6,
        ),
    ]


def measure_made(
    judge: Judge,
    make: Callable[[Composition, AssetRecipe], Iterator[DistillState | ViewsState]],
    wanted: Sequence[Composition],
    out: Path | None,
    say: Callable[[str], None],
    changes: Mapping[str, Any],
) -> list[Row]:
    """`measure_assets` of scenes that `make` optimises."""
    measures: list[tuple[Composition, AssetMeasure]] = []
    sheets, words = [], []
    for index, composition in enumerate(wanted):
        c = composition.without_view()
        recipe = AssetRecipe.parse({"prompt": c.caption(), "seed": index, **changes})
        started = time.monotonic(), time.process_time()
        try:
            for state in make(c, recipe):
                scene = state.scene
            seconds, processor = time.monotonic() - started[0], time.process_time() - started[1]
            mesh = export_asset(scene, recipe).mesh
        except KinoformError as error:
            say(f"  {c.caption()}: {error}")
            measures.append((c, FAILED))
            continue
        measure = measure_mesh(judge, mesh, c)
        measures.append((c, measure))
        say(
            f"  {c.caption()}: silhouettes {measure.silhouette_iou:.2f}, volume {measure.volumetric_iou:.2f}, "
            f"yaw {measure.pose.yaw:.0f}, colours off by {measure.colour_error:.2f}, "
            f"{'recognised' if measure.recognised else 'not recognised'} ({sum(measure.recognised_views)} of "
            f"{JUDGED_VIEWS} sides), {seconds:.0f} s ({processor:.0f} of processors)"
        )
        if out is not None:
            write_mesh(out / f"{index:02d}-{c.caption().replace(' ', '-')}.ply", mesh)
            pair = c.other is not None
            exact = scene_mesh(arrange(c))
            sheets.append([*judged_views(mesh, 128, pair=pair), *judged_views(exact, 128, pair=pair)])
            words.append(f"{c.caption()}: IoU {measure.silhouette_iou:.2f} (right: exact)")
    if sheets and out is not None:
        write_image(out / "assets.png", contact_sheet(sheets, words))
    return asset_rows(measures)


def asset_rows(measures: Sequence[tuple[Composition, AssetMeasure]]) -> list[Row]:
    found = [m for _, m in measures]
    made = [m for m in found if m is not FAILED]
    fronts = [
        m.recognised and abs(m.pose.yaw) <= FRONT_WITHIN for c, m in measures if objects_by_name()[c.obj].has_front
    ]
    sizes = [abs(math.log(m.pose.scale)) for m in made]
    return [
        mean("assets, silhouette IoU", [m.silhouette_iou for m in found], 0.80),
        mean("assets, volumetric IoU", [m.volumetric_iou for m in found]),
        mean("assets, Chamfer distance", [m.chamfer for m in made]),
        mean("assets, colour error (RGB distance)", [m.colour_error for m in made]),
        mean("assets, size error (factor)", np.exp(sizes)),
        share("assets, object and colour, 4 sides together", [m.recognised for m in found], 0.80),
        mean("assets, object and colour, each of 4 sides", [np.mean(m.recognised_views) for m in found], 0.80),
        share("assets, recognised, with the front where it should be", fronts),
        share("assets, watertight", [m.watertight for m in found], 1.0),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.asset_truth", description=__doc__.splitlines()[0])
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", default=list(PROMPTS), help="what the world knows")
    parser.add_argument("--model", default="world", help="world or a model folder")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the asset's recipe")
    parser.add_argument("--true-views", type=int, metavar="N", help="fit N exact views and do nothing else")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write a contact sheet and meshes here")
    args = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    try:
        wanted = [Composition.parse(prompt) for prompt in args.prompts]
        changes: dict[str, Any] = dict(pair.split("=", 1) for pair in args.set)
        if args.true_views is None:
            rows = measure_assets(Judge.load(), load_image_model(args.model), wanted, args.out, say, changes)
        else:
            changes["fit_views"] = args.true_views
            rows = measure_made(Judge.load(), fitted_to_truth, wanted, args.out, say, changes)
    except KinoformError as error:
        say(f"error: {error}")
        return error.exit_code
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Assets against the exact geometry and colours of what their prompts name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh

from benchmarks.geometry import (
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
from benchmarks.judge import Judge, same_thing
from benchmarks.report import Row, mean, share
from dreamfusion.asset import export_asset
from dreamfusion.distill import distill
from dreamfusion.mesh.files.write import write_mesh
from dreamfusion.mesh.turntable import render_mesh
from dreamfusion.recipe import AssetRecipe
from dreamfusion.views import around
from lab.kinds.view_teacher import views_of
from shared.artifacts.contact_sheet import contact_sheet
from shared.artifacts.media import write_image
from shared.errors import KinoformError
from shared.models.image_model import ImageModel
from world.mesh import scene_mesh, surface_colours
from world.prompt import Composition
from world.scene import Instance, arrange, objects_by_name, scene_distance

FRONT_WITHIN = 45.0  # degrees between where a front is and where it should be
JUDGED_VIEWS = 4


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
    seen = judge.look(judged_views(mesh))
    together = seen.merged([range(JUDGED_VIEWS)])  # a thing is one thing from all sides
    return AssetMeasure(
        silhouette_iou=float(overlap.mean()),
        volumetric_iou=volumetric_iou(distance, Solid(mesh, 96), pose, sample_cube(64, seed=1)),
        chamfer=chamfer(points, exact_points),
        colour_error=float(np.linalg.norm(colours - exact_colours, axis=1).mean()),
        recognised=bool(same_thing([wanted], together.named())[0]),
        recognised_views=tuple(same_thing([wanted] * JUDGED_VIEWS, seen.named()).tolist()),
        watertight=bool(mesh.is_watertight),
        pose=pose,
    )


def judged_views(mesh: trimesh.Trimesh, size: int = 64) -> np.ndarray:
    """Renders of the mesh from front, right, back and left, a little from above and off the axes, "4 h w 3"."""
    return render_mesh(mesh, around(JUDGED_VIEWS, size, elevation=20.0, start=20.0))


def measure_assets(
    judge: Judge, model: ImageModel, wanted: Sequence[Composition], out: Path | None, say: Callable[[str], None]
) -> list[Row]:
    """Distils every prompt with the recipe's own defaults and measures the meshes; the i-th has seed i."""
    measures: list[tuple[Composition, AssetMeasure]] = []
    sheets, words = [], []
    views = views_of(model)
    for index, composition in enumerate(wanted):
        c = composition.without_view()
        recipe = AssetRecipe(prompt=c.caption(), model=model.name, seed=index)
        try:
            for state in distill(model, recipe, views=views):
                scene = state.scene
            mesh = export_asset(scene, recipe).mesh
        except KinoformError as error:
            say(f"  {c.caption()}: {error}")
            measures.append((c, FAILED))
            continue
        measure = measure_mesh(judge, mesh, c)
        measures.append((c, measure))
        say(
            f"  {c.caption()}: silhouettes {measure.silhouette_iou:.2f}, volume {measure.volumetric_iou:.2f}, "
            f"yaw {measure.pose.yaw:.0f}, {'recognised' if measure.recognised else 'not recognised'}"
        )
        if out is not None:
            write_mesh(out / f"{index:02d}-{c.colour}-{c.obj}.ply", mesh)
            sheets.append([*judged_views(mesh, 128), *judged_views(scene_mesh(arrange(c)), 128)])
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

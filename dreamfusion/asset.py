"""The finished asset: a mesh with its report. `dreamfusion.mesh.files` writes it."""

from __future__ import annotations

from dataclasses import dataclass

import trimesh

from dreamfusion.mesh.arrange import arranged
from dreamfusion.mesh.extract import choose_threshold, extract_mesh, silhouette_views
from dreamfusion.mesh.report import MeshReport, mesh_report
from dreamfusion.recipe import AssetRecipe
from dreamfusion.scene import Arrangement, Scene

SMOOTHING = 12  # Taubin iterations


@dataclass(frozen=True)
class Asset:
    """mesh: vertices in world units, y up, front towards +z; display-referred vertex colours."""

    mesh: trimesh.Trimesh
    report: MeshReport


def export_asset(scene: Scene | Arrangement, recipe: AssetRecipe) -> Asset:
    """Mesh a distilled scene; of two things each, with half of the faces. Raises KinoformError when there is nothing to
    mesh."""
    if isinstance(scene, Arrangement):
        half = recipe.model_copy(update={"mesh_faces": recipe.mesh_faces // 2})
        first, second = (export_asset(thing, half).mesh for thing in scene.things)
        mesh = arranged(first, second, scene.relation, recipe.radius)
        return Asset(mesh, mesh_report(mesh))
    threshold = choose_threshold(scene.field, silhouette_views())
    mesh = extract_mesh(
        scene.field, threshold.density, resolution=recipe.mesh_resolution, faces=recipe.mesh_faces, smoothing=SMOOTHING
    )
    return Asset(mesh, mesh_report(mesh, threshold=threshold.density, silhouette_iou=threshold.silhouette_iou))

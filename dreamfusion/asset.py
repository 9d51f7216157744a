"""The finished asset: a mesh with its report, and the files it can be written to.

GLB   vertex colours in linear light, as glTF 2.0 section 3.7.2 wants them, and no material, so that every reader takes
      the colours; the run record under `asset.extras.kinoform`.
OBJ, PLY   display-referred vertex colours, as their readers expect; the run record in a sidecar.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float, UInt8

from dreamfusion.distill import Scene
from dreamfusion.mesher import choose_threshold, extract_mesh, silhouette_views
from dreamfusion.recipe import AssetRecipe
from dreamfusion.report import MeshReport, mesh_report
from shared.errors import InputError
from shared.files import write_bytes
from shared.run_record import RunRecord, glb_with_record, write_sidecar

ASSET_SUFFIXES = (".glb", ".obj", ".ply")
SMOOTHING = 3  # Taubin iterations


@dataclass(frozen=True)
class Asset:
    """mesh: vertices in world units, y up, front towards +z; display-referred vertex colours."""

    mesh: trimesh.Trimesh
    report: MeshReport


def export_asset(scene: Scene, recipe: AssetRecipe) -> Asset:
    """Mesh a distilled scene. Raises KinoformError when there is nothing to mesh."""
    threshold = choose_threshold(scene.field, silhouette_views())
    mesh = extract_mesh(
        scene.field, threshold.density, resolution=recipe.mesh_resolution, faces=recipe.mesh_faces, smoothing=SMOOTHING
    )
    return Asset(mesh, mesh_report(mesh, threshold=threshold.density, silhouette_iou=threshold.silhouette_iou))


def asset_bytes(mesh: trimesh.Trimesh, suffix: str) -> bytes:
    """The contents of a file of `suffix`, one of ASSET_SUFFIXES; the same mesh gives the same bytes.

    Raises InputError for another suffix.
    """
    if suffix == ".glb":
        return _glb(mesh)
    if suffix == ".obj":
        text = trimesh.exchange.obj.export_obj(mesh, include_normals=True, include_color=True, header="kinoform")
        return text.encode()
    if suffix == ".ply":
        return trimesh.exchange.ply.export_ply(mesh, encoding="binary", vertex_normal=True)
    raise InputError("asset suffix", expected=" ".join(ASSET_SUFFIXES), got=suffix)


def write_asset(path: str | os.PathLike[str], mesh: trimesh.Trimesh, record: RunRecord | None = None) -> None:
    """Write a mesh, whole or not at all, with its run record inside (GLB) or beside it (`<path>.json`).

    Raises InputError for an unknown suffix or a place that cannot be written to, OutputError when the disk is full.
    """
    suffix = Path(path).suffix.lower()
    data = asset_bytes(mesh, suffix)
    if record is not None and suffix == ".glb":
        data = glb_with_record(data, record)
    write_bytes(path, data)
    if record is not None and suffix != ".glb":
        write_sidecar(path, record)


def load_asset(path: str | os.PathLike[str]) -> trimesh.Trimesh:
    """A mesh as `export_asset` made it, with display-referred vertex colours, from any of ASSET_SUFFIXES."""
    path = Path(path)
    mesh = trimesh.load(path, force="mesh", process=False)
    if path.suffix.lower() == ".glb":
        colours = np.array(mesh.visual.vertex_colors)
        colours[:, :3] = to_display(colours[:, :3] / 255.0)
        mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=colours)
    return mesh


def to_linear(display: Float[np.ndarray, ...]) -> UInt8[np.ndarray, ...]:
    """Linear light, 0 to 255, of display-referred (sRGB) values in [0, 1] (IEC 61966-2-1)."""
    linear = np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)
    return np.round(linear * 255).astype(np.uint8)


def to_display(linear: Float[np.ndarray, ...]) -> UInt8[np.ndarray, ...]:
    """Display-referred (sRGB) values, 0 to 255, of linear light in [0, 1]; the inverse of `to_linear`."""
    display = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(display * 255).astype(np.uint8)


def _glb(mesh: trimesh.Trimesh) -> bytes:
    colours = np.array(mesh.visual.vertex_colors)
    colours[:, :3] = to_linear(colours[:, :3] / 255.0)
    linear = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.vertex_normals, process=False)
    linear.visual = trimesh.visual.ColorVisuals(linear, vertex_colors=colours)
    scene = trimesh.Scene({"asset": linear})
    return trimesh.exchange.gltf.export_glb(scene, include_normals=True)

"""The finished asset: a mesh with its report, and the files it can be written to.

GLB   vertex colours in linear light, as glTF 2.0 section 3.7.2 wants them, and no material, so that every reader takes
      the colours; the run record under `asset.extras.kinoform`.
OBJ, PLY   display-referred vertex colours, as their readers expect; the run record in a sidecar.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import trimesh

from dreamfusion.colour import mesh_colours, to_display, to_linear, with_colours
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

    Without a record, one that lies beside an earlier file of this name is taken away.

    Raises InputError for an unknown suffix or a place that cannot be written to, OutputError when the disk is full.
    """
    suffix = Path(path).suffix.lower()
    data = asset_bytes(mesh, suffix)
    if record is not None and suffix == ".glb":
        data = glb_with_record(data, record)
    write_bytes(path, data)
    if suffix != ".glb":
        write_sidecar(path, record)


def load_asset(path: str | os.PathLike[str]) -> trimesh.Trimesh:
    """A mesh as `export_asset` made it, with display-referred vertex colours, from any of ASSET_SUFFIXES."""
    mesh = trimesh.load_mesh(path, process=False)
    assert isinstance(mesh, trimesh.Trimesh), "several meshes in one file"
    if Path(path).suffix.lower() == ".glb":
        colours = mesh_colours(mesh)
        colours[:, :3] = to_display(colours[:, :3])
        mesh = with_colours(mesh, colours)
    return mesh


def _glb(mesh: trimesh.Trimesh) -> bytes:
    colours = mesh_colours(mesh)
    colours[:, :3] = to_linear(colours[:, :3])
    scene = trimesh.Scene()
    scene.add_geometry(with_colours(mesh, colours), node_name="asset", geom_name="asset")
    return trimesh.exchange.gltf.export_glb(scene, include_normals=True)

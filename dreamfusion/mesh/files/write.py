"""A mesh to a file of any of ASSET_SUFFIXES, with its run record, and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import trimesh

from dreamfusion.mesh.colour import mesh_colours, to_display, with_colours
from dreamfusion.mesh.files.formats import PRINT_SIZE_MM, check_mesh_file
from dreamfusion.mesh.files.gltf import glb_bytes
from dreamfusion.mesh.files.obj import obj_files, write_obj
from dreamfusion.mesh.files.ply import ply_bytes
from dreamfusion.mesh.files.printing import stl_bytes, threemf_bytes
from dreamfusion.mesh.files.usd import usdz_bytes
from shared.artifacts.files import write_bytes
from shared.artifacts.mesh_record import glb_with_record
from shared.artifacts.run_record import RunRecord, write_sidecar
from shared.errors import InputError


def write_mesh(
    path: str | os.PathLike[str],
    mesh: trimesh.Trimesh,
    record: RunRecord | None = None,
    *,
    print_size_mm: float | None = None,
) -> None:
    """Write a mesh with vertex colours, whole or not at all, with its run record inside; STL's lies beside it.

    mesh: y up, front towards +z, display-referred colours. print_size_mm: the largest extent in .stl and .3mf, which
    are in millimetres; PRINT_SIZE_MM where it is None. An OBJ brings an MTL and a PNG of its own into its folder.
    Equal input gives equal bytes. A record beside an earlier file of this name is taken away.

    Raises InputError for an unknown ending, a print size for a format without units, a mesh without faces, a missing
    package, or a place that cannot be written to; OutputError when the disk is full.
    """
    suffix = check_mesh_file(path, print_size_mm)
    if not len(mesh.faces):
        raise InputError("mesh", expected="at least one face", got="none")
    size = PRINT_SIZE_MM if print_size_mm is None else print_size_mm
    text = record.to_json() if record else ""
    if suffix == ".obj":
        write_obj(path, obj_files(mesh, text))
    else:
        write_bytes(path, _contents(suffix, mesh, text, size))
    write_sidecar(path, record if suffix == ".stl" else None)


def _contents(suffix: str, mesh: trimesh.Trimesh, text: str, size_mm: float) -> bytes:
    if suffix == ".glb":
        return glb_with_record(glb_bytes(mesh), text) if text else glb_bytes(mesh)
    if suffix == ".ply":
        return ply_bytes(mesh, text)
    if suffix == ".stl":
        return stl_bytes(mesh, size_mm)
    if suffix == ".3mf":
        return threemf_bytes(mesh, size_mm, text)
    assert suffix == ".usdz", suffix
    return usdz_bytes(mesh, text)


def load_mesh(path: str | os.PathLike[str]) -> trimesh.Trimesh:
    """A mesh as `write_mesh` wrote it to .glb or .ply, which hold all of it: display-referred vertex colours included.

    Raises InputError for another ending, ValueError for a GLB of others with several meshes.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".glb", ".ply"):
        raise InputError("mesh file", expected="a name ending in .glb or .ply", got=os.fspath(path))
    if suffix == ".ply":
        mesh = trimesh.load_mesh(path, process=False)
        assert isinstance(mesh, trimesh.Trimesh), "several meshes in one file"
        return with_colours(mesh, mesh_colours(mesh))
    # Of a mesh with a material, trimesh keeps the vertex colours aside, as they are in the file, in its scene alone.
    (mesh,) = trimesh.load_scene(Path(path), process=False).geometry.values()
    linear = np.asarray(cast(Any, mesh.visual).vertex_attributes["color"], dtype=np.float32)
    return with_colours(mesh, np.insert(to_display(linear), 3, 255, axis=1))

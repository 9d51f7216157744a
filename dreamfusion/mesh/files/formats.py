"""Which mesh files there are, and what a writer would refuse, asked before any work. Imports no torch, no trimesh.

Axes, units and colours of each:

GLB, USDZ   y up, front +z, metres (a world unit is a metre); colours in linear light
OBJ, PLY    y up, front +z, no unit; colours display-referred: OBJ in a picture beside it, PLY at its vertices
3MF, STL    for printers: z up, front -y, millimetres, on the plate z = 0 and where x, y >= 0; 3MF has display-referred
            colours, STL none
"""

from __future__ import annotations

import os
from pathlib import Path

from shared.artifacts.mesh_record import check_usd
from shared.errors import InputError

ASSET_SUFFIXES = (".glb", ".obj", ".ply", ".stl", ".3mf", ".usdz")
PRINTED_SUFFIXES = (".stl", ".3mf")

PRINT_SIZE_MM = 80.0  # where none is asked for


def check_mesh_file(path: str | os.PathLike[str], print_size_mm: float | None = None) -> str:
    """The ending of a mesh file's name, lower case, one of ASSET_SUFFIXES.

    Raises InputError for another ending, a print size for a format without units, or a format whose package is missing.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in ASSET_SUFFIXES:
        raise InputError("mesh file", expected=f"a name ending in {', '.join(ASSET_SUFFIXES)}", got=os.fspath(path))
    if print_size_mm is not None:
        if suffix not in PRINTED_SUFFIXES:
            wanted = " or ".join(PRINTED_SUFFIXES)
            raise InputError("print size", expected=f"{wanted}, which are in millimetres", got=os.fspath(path))
        if not 0 < print_size_mm < float("inf"):
            raise InputError("print size", expected="millimetres above 0", got=print_size_mm)
    if suffix == ".usdz":
        check_usd()
    return suffix

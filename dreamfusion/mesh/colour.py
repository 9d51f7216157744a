"""Vertex colours, and the two ways in which files hold them.

display-referred   sRGB values in 8 bits, what pictures hold; everything in Kinoform.
linear             proportional to light, in [0, 1]: what glTF and USD hold. 8 bits are too few for it: the 50 darkest
                   display values would keep 9 levels.
"""

from __future__ import annotations

import numpy as np
import trimesh
from jaxtyping import Float32, UInt8


def mesh_colours(mesh: trimesh.Trimesh) -> UInt8[np.ndarray, "v 4"]:
    """A copy of a mesh's RGBA vertex colours."""
    visual = mesh.visual
    assert isinstance(visual, trimesh.visual.ColorVisuals), "a mesh without vertex colours"
    return np.array(visual.vertex_colors)


def with_colours(mesh: trimesh.Trimesh, colours: UInt8[np.ndarray, "v 4"]) -> trimesh.Trimesh:
    """The same surface with these vertex colours."""
    coloured = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.vertex_normals, process=False)
    coloured.visual = trimesh.visual.ColorVisuals(coloured, vertex_colors=colours)
    return coloured


def to_linear(display: UInt8[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Linear light in [0, 1] of display-referred values (IEC 61966-2-1)."""
    s = display / 255.0
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_display(linear: Float32[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """The nearest display-referred values of linear light, which is cut to [0, 1]; the inverse of `to_linear`."""
    v = np.clip(linear.astype(np.float64), 0, 1)
    return np.round(255 * np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)).astype(np.uint8)

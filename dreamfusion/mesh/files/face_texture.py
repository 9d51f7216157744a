"""Vertex colours as a picture, for formats whose readers know colours only from pictures.

Each face f has 2 x 2 texels of its own, with the colours of its corners c0, c1 and c2 and c1 + c2 - c0 in the fourth:
between the four texel centres bilinear filtering is then linear interpolation over the face, in the linear light in
which renderers filter, and no face sees another's texels. Blocks lie in the order of their colours, so that the
smaller copies of the picture that renderers use from afar mix like with like; edges are powers of two for that, too.
A face of one colour has all its corners at its block's middle: there, whatever the angle, none of the smaller copies is
read, which mix the last of one colour with the first of the next.
"""

from __future__ import annotations

import io

import numpy as np
import trimesh
from jaxtyping import Float64, UInt8
from PIL import Image

from dreamfusion.mesh.colour import mesh_colours, to_display, to_linear


def face_texture(mesh: trimesh.Trimesh) -> tuple[UInt8[np.ndarray, "h w 3"], Float64[np.ndarray, "f 3 2"]]:
    """The picture, display-referred, and where in it each corner of each face lies: u to the right, v up, in [0, 1]."""
    colours = mesh_colours(mesh)[np.asarray(mesh.faces), :3]  # f 3 c
    linear = to_linear(colours)
    blocks = np.stack([linear[:, 0], linear[:, 1], linear[:, 2], linear[:, 1] + linear[:, 2] - linear[:, 0]], axis=1)
    columns = _power_of_two(int(np.ceil(np.sqrt(len(colours)))))
    rows = _power_of_two(-(-len(colours) // columns))
    order = np.argsort(_along_colours(to_display(linear.mean(axis=1))), kind="stable")
    filled = np.concatenate([blocks[order], np.repeat(blocks[order[-1:]], rows * columns - len(colours), axis=0)])
    grid = filled.reshape(rows, columns, 2, 2, 3).transpose(0, 2, 1, 3, 4)
    pixels = to_display(np.ascontiguousarray(grid.reshape(2 * rows, 2 * columns, 3)))

    place = np.empty(len(colours), dtype=np.int64)
    place[order] = np.arange(len(colours))
    one_colour = (colours == colours[:, :1]).all(axis=(1, 2))
    inside = np.where(one_colour[:, None, None], 1.0, np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]]))  # texels
    block = np.stack([2 * (place % columns), 2 * (place // columns)], axis=-1)
    uv = (block[:, None] + inside) / np.array([2 * columns, 2 * rows])
    uv[..., 1] = 1 - uv[..., 1]
    return pixels, uv


def png_bytes(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A picture as PNG; the same picture gives the same bytes."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def _power_of_two(least: int) -> int:
    return 1 << max(least - 1, 0).bit_length()


def _along_colours(colours: UInt8[np.ndarray, "f 3"]) -> np.ndarray:
    """Each colour's place on a Morton curve through the RGB cube: near on it is near in colour, mostly."""
    key = np.zeros(len(colours), dtype=np.int64)
    for bit in range(7, -1, -1):
        for channel in range(3):
            key = key << 1 | (colours[:, channel] >> bit & 1)
    return key

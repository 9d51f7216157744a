"""PLY, binary: vertices with normals and display-referred 8-bit colours; y up, front +z."""

from __future__ import annotations

import trimesh

from shared.artifacts.mesh_record import comment_lines

FORMAT = b"format binary_little_endian 1.0\n"


def ply_bytes(mesh: trimesh.Trimesh, record_text: str = "") -> bytes:
    """A mesh with vertex colours as PLY, with a run record in its comments; the same input gives the same bytes."""
    data = trimesh.exchange.ply.export_ply(mesh, encoding="binary", vertex_normal=True)
    comments = "".join(f"{line}\n" for line in comment_lines("comment", record_text))
    return data.replace(FORMAT, FORMAT + comments.encode(), 1)

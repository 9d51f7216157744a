"""GLB (glTF 2.0, binary): one node, one mesh, one matte material; y up, front +z, metres.

Vertex colours are linear light (section 3.7.2.1) in 32-bit floats: 8 bits lose the darks, and 16 come out of trimesh as
they are, not as shares of 65535. The material says that the surface is no metal; without one, glTF's default is
metallicFactor 1, and viewers show near-black. Nor does it shine (KHR_materials_specular): our pictures are Lambert's,
and the 4 % that every dielectric reflects otherwise would lift darks by 12 levels of 255.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import trimesh

from dreamfusion.mesh.colour import mesh_colours, to_linear
from shared.artifacts.mesh_record import join_glb
from shared.version import VERSION

ROUGHNESS = 0.8
SPECULAR = "KHR_materials_specular"
FLOAT, UNSIGNED_SHORT, UNSIGNED_INT = 5126, 5123, 5125  # component types
VERTICES, INDICES = 34962, 34963  # targets of buffer views
GLB_BIN = 0x004E4942  # "BIN" in little-endian


def glb_bytes(mesh: trimesh.Trimesh) -> bytes:
    """A mesh with vertex colours as a GLB; the same mesh gives the same bytes."""
    positions = np.asarray(mesh.vertices, dtype="<f4")
    index_type = np.dtype("<u2" if len(positions) < 2**16 else "<u4")  # 65535 itself is no index
    arrays = [
        (positions, "VEC3", VERTICES),
        (unit_normals(mesh), "VEC3", VERTICES),
        (to_linear(mesh_colours(mesh)[:, :3]).astype("<f4"), "VEC3", VERTICES),
        (np.asarray(mesh.faces).reshape(-1).astype(index_type), "SCALAR", INDICES),
    ]
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    data = b""
    for array, kind, target in arrays:
        body = array.tobytes()
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": len(body), "target": target})
        component = {"f4": FLOAT, "u2": UNSIGNED_SHORT, "u4": UNSIGNED_INT}[array.dtype.str[1:]]
        accessors.append({"bufferView": len(accessors), "componentType": component, "count": len(array), "type": kind})
        data += body + b"\0" * (-len(body) % 4)
    accessors[0] |= {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
    primitive = {"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3, "material": 0, "mode": 4}
    document = {
        "asset": {"version": "2.0", "generator": f"kinoform {VERSION}"},
        "extensionsUsed": [SPECULAR],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "asset", "mesh": 0}],
        "meshes": [{"name": "asset", "primitives": [primitive]}],
        "materials": [
            {
                "name": "matte",
                "pbrMetallicRoughness": {
                    "baseColorFactor": [1.0, 1.0, 1.0, 1.0],
                    "metallicFactor": 0.0,
                    "roughnessFactor": ROUGHNESS,
                },
                "extensions": {SPECULAR: {"specularFactor": 0.0}},
                # The inside of a closed surface is never seen.
                "doubleSided": not mesh.is_watertight,
            }
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(data)}],
    }
    return join_glb(document, struct.pack("<II", len(data), GLB_BIN) + data)


def unit_normals(mesh: trimesh.Trimesh) -> np.ndarray:
    """Vertex normals "v 3" in 32-bit floats, each of length one: up where a vertex has none."""
    normals = np.array(mesh.vertex_normals, dtype=np.float64)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-9, normals / np.maximum(length, 1e-9), (0.0, 1.0, 0.0)).astype("<f4")

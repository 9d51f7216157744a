"""Meshes for printers, STL and 3MF: millimetres, z up, front -y, standing on the plate z = 0 where x, y >= 0.

Both formats ask for coordinates that are not negative; slicers put what they load in the middle of the plate.
3MF: a ZIP with one XML model (core specification 1.3), and colours by its materials extension (1.2).
"""

from __future__ import annotations

import io
import zipfile
from xml.sax.saxutils import escape

import numpy as np
import trimesh
from jaxtyping import Float64

from dreamfusion.mesh.colour import mesh_colours
from shared.artifacts.mesh_record import CORE_3MF, MODEL_3MF, RECORD_3MF
from shared.errors import InputError
from shared.version import VERSION

STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first moment that a ZIP can name: no file holds the time it was made at

XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
CONTENT_TYPES = (
    f'{XML_HEAD}<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/></Types>\n'
)
RELATIONSHIPS = (
    f'{XML_HEAD}<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    f'<Relationship Id="model" Target="/{MODEL_3MF}" '
    'Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/></Relationships>\n'
)


def on_plate(mesh: trimesh.Trimesh, size_mm: float) -> Float64[np.ndarray, "v 3"]:
    """The vertices in millimetres as a printer wants them; the largest extent is `size_mm`.

    Raises InputError for a mesh without extent.
    """
    x, y, z = np.asarray(mesh.vertices, dtype=np.float64).T
    placed = np.stack([x, -z, y], axis=-1)
    low, high = placed.min(axis=0), placed.max(axis=0)
    extent = float((high - low).max())
    if not extent > 0:
        raise InputError("mesh", expected="one with an extent", got="all in one point")
    return (placed - low) * (size_mm / extent)


def stl_bytes(mesh: trimesh.Trimesh, size_mm: float) -> bytes:
    """A mesh as binary STL, without colours; the same input gives the same bytes."""
    corners = on_plate(mesh, size_mm)[np.asarray(mesh.faces)]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    triangles = np.zeros(len(corners), dtype=STL_TRIANGLE)
    triangles["normal"] = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    triangles["corners"] = corners
    header = f"kinoform {VERSION}: millimetres, z up".encode().ljust(80, b"\0")
    return header + len(triangles).to_bytes(4, "little") + triangles.tobytes()


def threemf_bytes(mesh: trimesh.Trimesh, size_mm: float, record_text: str = "") -> bytes:
    """A mesh with vertex colours as 3MF, with a run record in its metadata; the same input gives the same bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as package:
        for name, text in (
            ("[Content_Types].xml", CONTENT_TYPES),
            ("_rels/.rels", RELATIONSHIPS),
            (MODEL_3MF, _model(mesh, size_mm, record_text)),
        ):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            package.writestr(entry, text.encode())
    return data.getvalue()


def _model(mesh: trimesh.Trimesh, size_mm: float, record_text: str) -> str:
    palette, colour = np.unique(mesh_colours(mesh)[:, :3], axis=0, return_inverse=True)
    faces = np.asarray(mesh.faces)
    record = (
        f'<metadata name="{RECORD_3MF}" preserve="1" type="xs:string">{escape(record_text)}</metadata>\n'
        if record_text
        else ""
    )
    lines = [
        f'{XML_HEAD}<model unit="millimeter" xml:lang="en-US" xmlns="{CORE_3MF}" '
        'xmlns:m="http://schemas.microsoft.com/3dmanufacturing/material/2015/02" xmlns:kinoform="urn:kinoform">',
        f'<metadata name="Application">kinoform {VERSION}</metadata>',
        f'{record}<resources><m:colorgroup id="1">',
        *('<m:color color="#{:02X}{:02X}{:02X}FF"/>'.format(*row) for row in palette.tolist()),
        '</m:colorgroup><object id="2" type="model" name="asset" pid="1" pindex="0"><mesh><vertices>',
        *('<vertex x="{:.5f}" y="{:.5f}" z="{:.5f}"/>'.format(*row) for row in on_plate(mesh, size_mm).tolist()),
        "</vertices><triangles>",
    ]
    for (a, b, c), (p, q, r) in zip(faces.tolist(), colour.reshape(-1)[faces].tolist(), strict=True):
        lines.append(f'<triangle v1="{a}" v2="{b}" v3="{c}" pid="1" p1="{p}" p2="{q}" p3="{r}"/>')
    lines.append('</triangles></mesh></object></resources><build><item objectid="2"/></build></model>\n')
    return "\n".join(lines)

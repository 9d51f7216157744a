import io
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
import trimesh

from dreamfusion.mesh.colour import mesh_colours
from dreamfusion.mesh.files.printing import on_plate, stl_bytes, threemf_bytes
from shared.errors import InputError
from tests.dreamfusion.mesh.files.meshes import RECORD, coloured_ball

CORE = "{http://schemas.microsoft.com/3dmanufacturing/core/2015/02}"
COLOURS = "{http://schemas.microsoft.com/3dmanufacturing/material/2015/02}"


def test_it_stands_on_the_plate_in_millimetres():
    mesh = coloured_ball()
    placed = on_plate(mesh, 80.0)
    extent = placed.max(axis=0) - placed.min(axis=0)
    assert np.allclose(placed.min(axis=0), 0)
    assert extent.max() == pytest.approx(80)
    # Tall is along z now: widths 1, 1.5 and 0.5 along x, y and z were 80 mm / 1.5 each.
    assert extent == pytest.approx(np.array([1.0, 0.5, 1.5]) * 80 / 1.5, rel=1e-6)
    # What faced +z faces -y.
    assert placed[mesh.vertices[:, 2].argmax(), 1] == pytest.approx(0)
    assert trimesh.Trimesh(placed, mesh.faces, process=False).volume == pytest.approx(mesh.volume * (80 / 1.5) ** 3)


def test_a_point_cannot_be_printed():
    with pytest.raises(InputError, match="extent"):
        on_plate(trimesh.Trimesh(np.ones((3, 3)), [[0, 1, 2]], process=False), 80.0)


def test_stl_is_read_by_others():
    mesh = coloured_ball()
    data = stl_bytes(mesh, 40.0)
    assert not data.startswith(b"solid")  # which would make it text to many readers
    assert len(data) == 84 + 50 * len(mesh.faces)
    loaded = trimesh.load_mesh(io.BytesIO(data), file_type="stl")
    assert loaded.is_watertight
    assert loaded.bounds.tolist() == pytest.approx(np.array([on_plate(mesh, 40).min(0), on_plate(mesh, 40).max(0)]))
    assert loaded.volume == pytest.approx(mesh.volume * (40 / 1.5) ** 3, rel=1e-5)
    normals = np.frombuffer(data[84:], np.dtype([("n", "<f4", 3), ("rest", "V38")]))["n"]
    assert np.allclose(normals, loaded.face_normals, atol=1e-4)


def test_3mf_read_by_hand():
    mesh = coloured_ball()
    package = zipfile.ZipFile(io.BytesIO(threemf_bytes(mesh, 40.0, RECORD.to_json())))
    assert package.namelist() == ["[Content_Types].xml", "_rels/.rels", "3D/3dmodel.model"]
    for name in package.namelist():
        ElementTree.fromstring(package.read(name))
    assert b'Target="/3D/3dmodel.model"' in package.read("_rels/.rels")
    root = ElementTree.fromstring(package.read("3D/3dmodel.model"))
    assert root.get("unit") == "millimeter"
    (found,) = [e for e in root.findall(f"{CORE}metadata") if e.get("name") == "kinoform:record"]
    assert found.text == RECORD.to_json()
    vertices = np.array([[float(v.get(k)) for k in "xyz"] for v in root.iter(f"{CORE}vertex")])
    assert np.allclose(vertices, on_plate(mesh, 40), atol=1e-5)
    triangles = list(root.iter(f"{CORE}triangle"))
    assert np.array_equal([[int(t.get(k)) for k in ("v1", "v2", "v3")] for t in triangles], mesh.faces)
    palette = [bytes.fromhex(c.get("color")[1:]) for c in root.iter(f"{COLOURS}color")]
    corners = np.array([[list(palette[int(t.get(k))]) for k in ("p1", "p2", "p3")] for t in triangles])
    assert np.array_equal(corners, mesh_colours(mesh)[mesh.faces])
    (item,) = root.iter(f"{CORE}item")
    assert item.get("objectid") == next(root.iter(f"{CORE}object")).get("id")

import io

import numpy as np
import trimesh

from dreamfusion.mesh.colour import mesh_colours
from dreamfusion.mesh.files.ply import ply_bytes
from tests.dreamfusion.mesh.files.meshes import RECORD, coloured_ball


def test_another_reader_sees_shape_and_colours_past_the_record():
    mesh = coloured_ball()
    for text in ("", RECORD.to_json()):
        loaded = trimesh.load_mesh(io.BytesIO(ply_bytes(mesh, text)), file_type="ply", process=False)
        assert np.allclose(loaded.vertices, mesh.vertices, atol=1e-6)
        assert np.array_equal(loaded.faces, mesh.faces)
        assert np.array_equal(mesh_colours(loaded), mesh_colours(mesh))
        assert np.allclose(loaded.vertex_normals, mesh.vertex_normals, atol=1e-6)


def test_no_line_of_the_head_is_too_long_for_other_readers():
    """rply, which Open3D and others read with, takes 1024 characters a line."""
    head = ply_bytes(coloured_ball(), RECORD.to_json()).partition(b"end_header")[0]
    assert len(RECORD.to_json()) > 1024
    assert max(map(len, head.splitlines())) < 256

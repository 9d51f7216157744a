"""The GLB, read by hand as glTF 2.0 describes it, and by trimesh."""

import json
import struct

import numpy as np
import trimesh

from dreamfusion.mesh.colour import mesh_colours, to_display, to_linear
from dreamfusion.mesh.files.gltf import glb_bytes, unit_normals
from tests.dreamfusion.mesh.files.meshes import coloured_ball

NUMBERS = {5126: "<f4", 5123: "<u2", 5125: "<u4"}


def parts(data):
    """The document, and each accessor's array."""
    length = struct.unpack_from("<I", data, 12)[0]
    document, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
    assert struct.unpack_from("<II", data, 20 + length) == (len(binary), 0x004E4942)
    arrays = []
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        body = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        arrays.append(np.frombuffer(body, NUMBERS[accessor["componentType"]]).reshape(accessor["count"], -1))
    assert document["buffers"] == [{"byteLength": len(binary)}]
    return document, arrays


def test_the_material_is_matte_and_no_metal():
    document, _ = parts(glb_bytes(coloured_ball()))
    (material,) = document["materials"]
    assert material["name"] == "matte"
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert material["pbrMetallicRoughness"]["roughnessFactor"] == 0.8
    assert material["extensions"]["KHR_materials_specular"]["specularFactor"] == 0
    assert document["extensionsUsed"] == ["KHR_materials_specular"]
    assert document["meshes"][0]["primitives"][0]["material"] == 0


def test_only_an_open_surface_has_two_sides():
    closed = coloured_ball()
    assert parts(glb_bytes(closed))[0]["materials"][0]["doubleSided"] is False
    opened = trimesh.Trimesh(closed.vertices, closed.faces[:-5], vertex_colors=mesh_colours(closed), process=False)
    assert parts(glb_bytes(opened))[0]["materials"][0]["doubleSided"] is True


def test_arrays_are_the_mesh():
    mesh = coloured_ball()
    document, (positions, normals, colours, indices) = parts(glb_bytes(mesh))
    assert [view["target"] for view in document["bufferViews"]] == [34962, 34962, 34962, 34963]
    assert np.array_equal(positions, mesh.vertices.astype(np.float32))
    assert document["accessors"][0]["min"] == positions.min(axis=0).tolist()
    assert document["accessors"][0]["max"] == positions.max(axis=0).tolist()
    assert np.allclose(normals, mesh.vertex_normals, atol=1e-6)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    assert np.array_equal(indices.reshape(-1, 3), mesh.faces)
    # Section 3.7.2.1: linear light. Every display value comes back, the darkest too.
    assert np.array_equal(colours, to_linear(mesh_colours(mesh)[:, :3]))
    assert np.array_equal(to_display(np.array(colours)), mesh_colours(mesh)[:, :3])


def test_trimesh_reads_the_colours():
    mesh, data = coloured_ball(), glb_bytes(coloured_ball())
    loaded = trimesh.load_scene(trimesh.util.wrap_as_stream(data), file_type="glb", process=False).geometry["asset"]
    colours = np.asarray(loaded.visual.vertex_attributes["color"], dtype=np.float32)
    assert np.array_equal(to_display(colours), mesh_colours(mesh)[:, :3])
    assert loaded.visual.material.metallicFactor == 0
    bare = trimesh.load_mesh(trimesh.util.wrap_as_stream(data), file_type="glb", process=False, skip_materials=True)
    assert np.abs(bare.visual.vertex_colors[:, :3] / 255.0 - colours).max() <= 0.5 / 255 + 1e-6


def test_many_vertices_have_wide_indices():
    def indices(count):
        vertices = np.zeros((count, 3))
        vertices[-3:] = np.eye(3)
        mesh = trimesh.Trimesh(vertices, [[count - 3, count - 2, count - 1]], process=False)
        mesh.visual.vertex_colors = np.full((count, 4), 255, np.uint8)
        return parts(glb_bytes(mesh))[1][3]

    assert indices(65535).dtype == np.uint16
    assert indices(65536).dtype == np.uint32
    assert indices(65536).ravel().tolist() == [65533, 65534, 65535]


def test_a_vertex_without_a_normal_points_up():
    mesh = trimesh.Trimesh(np.vstack([np.eye(3), np.zeros(3)]), [[0, 1, 2]], process=False)
    normals = unit_normals(mesh)
    assert np.allclose(normals[:3], 1 / np.sqrt(3), atol=1e-6)
    assert normals[3].tolist() == [0, 1, 0]

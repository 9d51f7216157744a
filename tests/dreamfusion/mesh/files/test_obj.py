import numpy as np
import pytest
import trimesh
from PIL import Image

from dreamfusion.mesh.colour import mesh_colours
from dreamfusion.mesh.files import obj as module
from dreamfusion.mesh.files.obj import obj_files, write_obj
from shared.artifacts.mesh_record import mesh_record_text
from shared.errors import InputError
from tests.dreamfusion.mesh.files.meshes import RECORD, coloured_ball


def other_ball():
    mesh = coloured_ball()
    mesh.visual.vertex_colors = np.full((len(mesh.vertices), 4), (200, 10, 10, 255), np.uint8)
    return mesh


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_another_reader_sees_shape_and_colours(tmp_path):
    mesh = coloured_ball()
    write_obj(tmp_path / "ball.obj", obj_files(mesh, RECORD.to_json()))
    shape = trimesh.load_mesh(tmp_path / "ball.obj", process=False, maintain_order=True, skip_materials=True)
    assert shape.is_watertight
    assert np.allclose(shape.vertices, mesh.vertices, atol=1e-6)
    assert np.array_equal(shape.faces, mesh.faces)
    loaded = trimesh.load_mesh(tmp_path / "ball.obj", process=False)  # which gives each corner a vertex of its own
    picture = np.array(loaded.visual.material.image.convert("RGB"))
    height, width = picture.shape[:2]
    places = np.floor(np.asarray(loaded.visual.uv) * [width, height]).astype(int)
    seen = picture[height - 1 - places[:, 1], places[:, 0]][loaded.faces]
    assert np.allclose(loaded.triangles, mesh.triangles, atol=1e-6)
    assert np.array_equal(seen, mesh_colours(mesh)[mesh.faces, :3])
    assert mesh_record_text(tmp_path / "ball.obj") == RECORD.to_json()


def test_what_an_obj_names_is_there(tmp_path):
    files = obj_files(coloured_ball())
    write_obj(tmp_path / "a b ü.obj", files)
    assert names(tmp_path) == ["a b ü.obj", f"{files.name}.mtl", f"{files.name}.png"]
    lines = (tmp_path / "a b ü.obj").read_text().splitlines()
    assert f"mtllib {files.name}.mtl" in lines
    mtl = (tmp_path / f"{files.name}.mtl").read_text().splitlines()
    assert f"map_Kd {files.name}.png" in mtl
    assert mtl[0] == "newmtl matte"
    assert "usemtl matte" in lines
    assert "Pm 0" in mtl
    Image.open(tmp_path / f"{files.name}.png").load()


def test_cut_short_the_earlier_obj_keeps_its_colours(tmp_path, monkeypatch):
    place = tmp_path / "ball.obj"
    write_obj(place, obj_files(coloured_ball()))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    write = module.write_bytes

    def interrupted(path, data):
        if str(path).endswith(".obj"):
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_obj(place, obj_files(other_ball()))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    write_obj(place, obj_files(other_ball()))
    name = obj_files(other_ball()).name
    assert names(tmp_path) == ["ball.obj", f"{name}.mtl", f"{name}.png"]


def test_what_another_obj_still_names_stays(tmp_path):
    first = obj_files(coloured_ball())
    write_obj(tmp_path / "a.obj", first)
    write_obj(tmp_path / "b.obj", first)
    write_obj(tmp_path / "a.obj", obj_files(other_ball()))
    assert {f"{first.name}.mtl", f"{first.name}.png"} <= set(names(tmp_path))
    write_obj(tmp_path / "b.obj", obj_files(other_ball()))
    assert f"{first.name}.png" not in names(tmp_path)


def test_a_place_that_is_none_gets_nothing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        write_obj(tmp_path / "file" / "a.obj", obj_files(coloured_ball()))
    assert names(tmp_path) == ["file"]

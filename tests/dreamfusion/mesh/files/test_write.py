import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import trimesh

from dreamfusion.mesh.colour import mesh_colours
from dreamfusion.mesh.files.formats import ASSET_SUFFIXES
from dreamfusion.mesh.files.write import load_mesh, write_mesh
from shared.artifacts.run_record import read_record, write_sidecar
from shared.errors import InputError
from tests.dreamfusion.mesh.files.meshes import RECORD, coloured_ball
from tests.lab.command import ROOT, environment

# .usdz needs a package that need not be there: tests/dreamfusion/mesh/files/test_usd.py has both ways.
WRITTEN = [s for s in ASSET_SUFFIXES if s != ".usdz" or importlib.util.find_spec("pxr")]


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_file_carries_its_record(suffix, tmp_path):
    place = tmp_path / f"ball{suffix}"
    write_mesh(place, coloured_ball(), RECORD)
    assert read_record(place) == RECORD
    assert (tmp_path / f"ball{suffix}.json").exists() == (suffix == ".stl")


@pytest.mark.parametrize("suffix", WRITTEN)
def test_no_record_of_an_earlier_file_stays(suffix, tmp_path):
    place = tmp_path / f"ball{suffix}"
    write_mesh(place, coloured_ball(), RECORD)
    write_sidecar(place, RECORD)
    write_mesh(place, coloured_ball())
    with pytest.raises(InputError, match="made by kinoform"):
        read_record(place)


def test_same_mesh_same_bytes_whatever_the_name_and_the_process(tmp_path):
    for suffix in WRITTEN:
        write_mesh(tmp_path / f"here{suffix}", coloured_ball(), RECORD)
    program = (
        "from dreamfusion.mesh.files.write import write_mesh\n"
        "from tests.dreamfusion.mesh.files.meshes import RECORD, coloured_ball\n"
        f"for suffix in {WRITTEN!r}: write_mesh(f'{tmp_path}/there' + suffix, coloured_ball(), RECORD)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment(), check=True, timeout=100)
    for suffix in WRITTEN:
        assert (tmp_path / f"here{suffix}").read_bytes() == (tmp_path / f"there{suffix}").read_bytes(), suffix


@pytest.mark.parametrize("suffix", [".glb", ".ply"])
def test_all_of_it_comes_back(suffix, tmp_path):
    mesh = coloured_ball()
    write_mesh(tmp_path / f"ball{suffix}", mesh, RECORD)
    loaded = load_mesh(tmp_path / f"ball{suffix}")
    assert loaded.is_watertight
    assert np.allclose(loaded.vertices, mesh.vertices, atol=1e-6)
    assert np.array_equal(loaded.faces, mesh.faces)
    assert np.array_equal(mesh_colours(loaded), mesh_colours(mesh))


def test_the_size_of_a_print_is_asked_for_or_80_mm(tmp_path):
    write_mesh(tmp_path / "a.stl", coloured_ball())
    write_mesh(tmp_path / "b.stl", coloured_ball(), print_size_mm=25.0)
    assert trimesh.load_mesh(tmp_path / "a.stl").extents.max() == pytest.approx(80)
    assert trimesh.load_mesh(tmp_path / "b.stl").extents.max() == pytest.approx(25)


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    for name, mesh, size in (
        ("a.fbx", coloured_ball(), None),
        ("a.glb", coloured_ball(), 80.0),
        ("a.obj", trimesh.Trimesh(), None),
        ("file/a.glb", coloured_ball(), None),
    ):
        with pytest.raises(InputError):
            write_mesh(tmp_path / name, mesh, RECORD, print_size_mm=size)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    with pytest.raises(InputError, match=r"\.glb or \.ply"):
        load_mesh(tmp_path / "a.obj")

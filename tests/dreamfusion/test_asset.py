import numpy as np
import pytest
import trimesh

from dreamfusion.asset import ASSET_SUFFIXES, asset_bytes, export_asset, load_asset, write_asset
from dreamfusion.colour import mesh_colours, to_linear
from dreamfusion.distill import Scene
from dreamfusion.mesher import extract_mesh
from dreamfusion.recipe import AssetRecipe
from shared.errors import InputError, KinoformError
from shared.run_record import RunRecord, read_record
from tests.dreamfusion.shapes import SolidField, sphere, torus

RECIPE = AssetRecipe(prompt="a red ring", mesh_resolution=40, mesh_faces=3000)
RECORD = RunRecord.of_run("asset", RECIPE.resolved(), 0, "world", {})


@pytest.fixture(scope="module")
def mesh() -> trimesh.Trimesh:
    return extract_mesh(SolidField(torus(), radius=1.1), 100.0, resolution=32)


def test_export_meshes_a_scene():
    asset = export_asset(Scene(SolidField(torus(), radius=1.1, width=1e-3)), RECIPE)
    assert asset.report.watertight
    assert asset.report.outward
    assert asset.report.components == 1
    assert asset.report.faces == len(asset.mesh.faces) <= 3000
    assert asset.report.silhouette_iou > 0.98
    with pytest.raises(KinoformError, match="empty"):
        export_asset(Scene(SolidField(sphere(), peak=0.0)), RECIPE)


@pytest.mark.parametrize("suffix", ASSET_SUFFIXES)
def test_files_hold_the_mesh_and_its_colours(mesh, suffix, tmp_path):
    write_asset(tmp_path / f"ring{suffix}", mesh, RECORD)
    loaded = load_asset(tmp_path / f"ring{suffix}")
    assert loaded.is_watertight
    assert loaded.volume == pytest.approx(mesh.volume, rel=1e-5)
    assert np.allclose(loaded.vertices, mesh.vertices, atol=1e-6)
    assert np.array_equal(loaded.faces, mesh.faces)
    # A GLB holds linear bytes, which are coarse in the darks.
    off = np.abs(mesh_colours(loaded).astype(int) - mesh_colours(mesh))
    assert off.max() <= (7 if suffix == ".glb" else 0)
    assert read_record(tmp_path / f"ring{suffix}") == RECORD


@pytest.mark.parametrize("suffix", ASSET_SUFFIXES)
def test_same_mesh_same_bytes(mesh, suffix):
    assert asset_bytes(mesh, suffix) == asset_bytes(mesh.copy(), suffix)


def test_glb_colours_are_linear_for_other_readers(mesh, tmp_path):
    """glTF 2.0, section 3.7.2: vertex colours are linear."""
    write_asset(tmp_path / "ring.glb", mesh)
    loaded = trimesh.load_mesh(tmp_path / "ring.glb", process=False)
    assert np.array_equal(mesh_colours(loaded)[:, :3], to_linear(mesh_colours(mesh)[:, :3]))
    assert np.allclose(loaded.vertex_normals, mesh.vertex_normals, atol=1e-3)


def test_wrong_places_are_refused(mesh, tmp_path):
    with pytest.raises(InputError, match=r"expected \.glb \.obj \.ply, got \.stl"):
        asset_bytes(mesh, ".stl")
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        write_asset(tmp_path / "file" / "ring.glb", mesh)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]

"""`kinoform asset` on a tiny model."""

import json

import pytest
import trimesh

from dreamfusion.recipe import AssetRecipe
from lab.main import main
from shared.artifacts.media import read_clip
from shared.artifacts.run_record import read_record

SHORT = [
    "--steps", "2", "--samples", "16", "--coarse-render-size", "8", "--render-size", "16", "--field-resolution", "12",
    "--mesh-resolution", "24", "--turntable-frames", "3", "--turntable-size", "32", "--fit-steps", "3",
    "--fit-sampling-steps", "2", "--fit-views", "4",
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
def test_the_mesh_has_its_report_and_its_record(model, tmp_path, capsys, suffix):
    path = tmp_path / f"cube{suffix}"
    assert main(["asset", "a red cube", "--model", str(model), *SHORT, "-o", str(path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    mesh = trimesh.load_mesh(path, process=False, maintain_order=True, skip_materials=True)
    assert result["mesh"]["faces"] == len(mesh.faces) > 0
    assert result["mesh"]["watertight"] == mesh.is_watertight
    assert result["mesh"]["volume"] == pytest.approx(mesh.volume, rel=1e-4)
    assert result["outputs"] == [str(path)]
    record = read_record(path)
    assert AssetRecipe.parse(record.recipe).steps == 2
    assert record.command == "asset"


def test_the_turntable_is_a_clip_of_the_recipe(model, tmp_path, capsys):
    path, turning = tmp_path / "cube.glb", tmp_path / "cube.mp4"
    arguments = ["asset", "a red cube", "--model", str(model), *SHORT, "-o", str(path), "--turntable", str(turning)]
    assert main(arguments) == 0
    assert read_clip(turning).frames.shape == (3, 32, 32, 3)
    assert read_record(turning) == read_record(path)
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"wrote {path}: ")
    assert "faces" in out[0]
    assert out[1] == f"wrote {turning}"


def test_a_print_has_its_size_and_is_made_again(model, tmp_path):
    path = tmp_path / "cube.stl"
    arguments = ["asset", "a red cube", "--model", str(model), *SHORT, "--print-size", "5cm", "-o", str(path)]
    assert main(arguments) == 0
    mesh = trimesh.load_mesh(path)
    assert mesh.extents.max() == pytest.approx(50)
    assert mesh.bounds[0].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert AssetRecipe.parse(read_record(path).recipe).print_size == 50
    assert main(["rerun", str(path)]) == 0
    assert (tmp_path / "cube-rerun.stl").read_bytes() == path.read_bytes()


def test_a_size_that_no_format_holds_is_refused_before_any_work(tmp_path, capsys):
    path = tmp_path / "cube.glb"
    assert main(["asset", "a red cube", "--model", "none", "--print-size", "80mm", "-o", str(path)]) == 2
    assert "print size: expected .stl or .3mf" in capsys.readouterr().err

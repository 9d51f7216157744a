"""`kinoform world`: data sets and exact meshes."""

import json

import pytest
import trimesh

from dreamfusion.mesh.files.write import load_mesh
from lab.main import main
from shared.artifacts.media import read_clip, read_image


def test_render_writes_pictures_with_captions(tmp_path, capsys):
    assert main(["world", "render", "--out", str(tmp_path / "new" / "data"), "--count", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in (tmp_path / "new/data/captions.jsonl").read_text().splitlines()]
    assert result["count"] == len(lines) == 3
    assert all(line["colour"] in line["caption"] for line in lines)
    assert {read_image(tmp_path / "new/data" / line["file"]).shape for line in lines} == {(64, 64, 3)}


def test_the_same_seed_renders_the_same_pictures(tmp_path):
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert main(["world", "render", "--out", str(tmp_path / name), "--count", "2", "--seed", seed]) == 0
    a, b, c = ((tmp_path / name / "captions.jsonl").read_text() for name in "abc")
    assert a == b
    assert a != c


def test_render_writes_clips(tmp_path, capsys):
    assert main(["world", "render", "--out", str(tmp_path), "--count", "1", "--clips"]) == 0
    (line,) = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert read_clip(tmp_path / line["file"]).frames.shape == (16, 64, 64, 3)
    assert "wrote 1 clips" in capsys.readouterr().out


def test_more_frames_show_the_same_motion_more_finely(tmp_path):
    clips = []
    for frames in ("16", "31"):
        out = tmp_path / frames
        assert main(["world", "render", "--out", str(out), "--count", "1", "--clips", "--frames", frames]) == 0
        clips.append(read_clip(next((out / "clips").iterdir())).frames.astype(int))
    assert [len(clip) for clip in clips] == [16, 31]
    assert abs(clips[1][::2] - clips[0]).mean() < 1.5  # every other frame is the same, up to encoding


@pytest.mark.parametrize("suffix", [".glb", ".ply"])
def test_mesh_is_closed_and_has_its_colour(tmp_path, suffix):
    file = tmp_path / f"cube{suffix}"
    assert main(["world", "mesh", "a red cube", "-o", str(file)]) == 0
    mesh = load_mesh(file)
    assert mesh.is_watertight
    red, green, _, _ = mesh.visual.vertex_colors.mean(axis=0)
    assert red > 2 * green


@pytest.mark.parametrize("suffix", [".obj", ".stl"])
def test_mesh_in_other_formats_is_closed(tmp_path, suffix):
    file = tmp_path / f"cube{suffix}"
    assert main(["world", "mesh", "a red cube", "-o", str(file)]) == 0
    assert trimesh.load_mesh(file, maintain_order=True, skip_materials=True).is_watertight


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["render", "--out", "d", "--count", "0"], ("--count", "from 1", "got 0")),
        (["render", "--out", "d", "--count", "-3"], ("--count", "got -3")),
        (["render", "--out", "d", "--count", "many"], ("--count", "a whole number", "got many")),
        (["render", "--out", "d", "--count", "1", "--seed", "-1"], ("--seed", "got -1")),
        (["render", "--out", "d", "--count", "1", "--clips", "--frames", "1"], ("--frames", "from 2", "got 1")),
        (["render", "--out", "d", "--count", "1", "--frames", "9"], ("--frames", "--clips", "got 9")),
        (["render", "--out", "d", "--count", "1", "--split", "test"], ("--split", "held-out", "got test")),
        (["render", "--out", "taken/d", "--count", "1"], ("--out", "not a file among them")),
        (["render", "--out", "taken", "--count", "1"], ("--out", "a folder", "got taken")),
        (["render", "--out", ".", "--count", "1"], ("--out", "a new or empty folder", "got .")),
        (["render", "--count", "1"], ("world render", "--out")),
        (["mesh", "a dragon", "-o", "m.glb"], ("world caption", "a red cube", "got a dragon")),
        (["mesh", "a red cube", "-o", "m.fbx"], ("output", ".glb", "got m.fbx")),
        (["mesh", "a red cube"], ("world mesh", "-o")),
        ([], ("world", "ACTION")),
    ],
)
def test_wrong_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, parts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    assert main(["world", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert all(part in err for part in parts), err
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]

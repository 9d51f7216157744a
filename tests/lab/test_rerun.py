"""`kinoform rerun` and `describe`: a file tells how it was made, and is made again to the byte."""

import json
import shutil

import pytest

from lab.main import main
from shared.run_record import RunRecord, read_record
from tests.lab.command import is_refusal, kinoform
from tests.lab.test_asset import SHORT as SHORT_ASSET
from tests.lab.test_clip import SHORT as SHORT_CLIP
from tests.video.tiny import build_video_folder

RUNS = {
    "clip.mp4": ["clip", *SHORT_CLIP],
    "clip.gif": ["clip", *SHORT_CLIP],
    "image.png": ["image", "--steps", "2"],
    "image.webp": ["image", "--steps", "2"],
    "asset.glb": ["asset", *SHORT_ASSET],
}


def make(model, path, *arguments):
    name, *flags = RUNS[path.name]
    assert main([name, "a red cube moving left", "--model", str(model), *flags, "--seed", "5", *arguments]) == 0


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "image.png", "image.webp"])
def test_rerun_gives_the_same_bytes(model, tmp_path, name):
    path = tmp_path / name
    make(model, path, "-o", str(path))
    assert main(["rerun", str(path)]) == 0
    again = path.with_name(f"{path.stem}-rerun{path.suffix}")
    assert again.read_bytes() == path.read_bytes()


def test_another_process_gives_the_same_bytes(model, tmp_path):
    first, second = tmp_path / "clip.mp4", tmp_path / "again.mp4"
    make(model, first, "-o", str(first))
    run = kinoform("rerun", "clip.mp4", "-o", "again.mp4", "--json", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["outputs"] == ["again.mp4"]
    assert first.read_bytes() == second.read_bytes()


def test_an_asset_and_its_turntable_are_made_again(model, tmp_path):
    path, turning = tmp_path / "asset.glb", tmp_path / "turning.mp4"
    make(model, path, "-o", str(path), "--turntable", str(turning))
    for file in (path, turning):
        assert main(["rerun", str(file)]) == 0
        assert file.with_name(f"{file.stem}-rerun{file.suffix}").read_bytes() == file.read_bytes()


def test_a_model_that_has_moved_gives_the_same_bytes(model, tmp_path, capsys):
    path = tmp_path / "image.png"
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(model, here)
    make(here, path, "-o", str(path))
    here.rename(there)
    assert main(["rerun", str(path)]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["rerun", str(path), "--model", str(there)]) == 0
    assert (tmp_path / "image-rerun.png").read_bytes() == path.read_bytes()


def test_other_weights_are_refused(model, tmp_path, capsys):
    path = tmp_path / "image.png"
    make(model, path, "-o", str(path))
    other = build_video_folder(tmp_path / "other", seed=1)
    capsys.readouterr()
    code = main(["rerun", str(path), "--model", str(other)])
    assert is_refusal(code, capsys.readouterr().err.splitlines()[-1], "weights", "text_encoder", "--model")
    assert not (tmp_path / "image-rerun.png").exists()


def test_another_version_is_said(model, tmp_path, capsys):
    path = tmp_path / "image.webp"
    make(model, path, "-o", str(path))
    record = read_record(path)
    older = record.model_copy(update={"versions": {**record.versions, "torch": "1.0"}})
    (tmp_path / "image.webp.json").write_text(older.to_json())
    capsys.readouterr()
    assert main(["rerun", str(path)]) == 0
    assert "made with torch 1.0" in capsys.readouterr().err


def test_a_record_of_something_else_is_refused(model, tmp_path, capsys):
    path = tmp_path / "image.png"
    make(model, path, "-o", str(path))
    record = read_record(path)
    for update, part in (
        ({"command": "song"}, "clip, image or asset"),
        ({"recipe": {**record.recipe, "stesp": 3}}, "Did you mean steps?"),
        ({"recipe": {"prompt": "x", "steps": -1}}, "steps"),
    ):
        file = tmp_path / "other.json"
        file.write_text(record.model_copy(update=update).to_json())
        capsys.readouterr()
        assert is_refusal(main(["rerun", str(file), "-o", str(tmp_path / "o.png")]), capsys.readouterr().err, part)


def test_describe_shows_the_record(model, tmp_path, capsys):
    path = tmp_path / "image.png"
    make(model, path, "-o", str(path))
    capsys.readouterr()
    assert main(["describe", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "command: image" in lines
    assert "  prompt: a red cube moving left" in lines
    assert "  steps: 2" in lines
    assert main(["describe", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert RunRecord.model_validate(shown["record"]) == read_record(path)
    assert shown["seed"] == 5


def test_a_run_that_was_offloaded_to_spare_a_gpu_is_made_again_without_one(model, tmp_path, capsys):
    path = tmp_path / "image.png"
    make(model, path, "-o", str(path))
    record = read_record(path)
    elsewhere = record.model_copy(update={"recipe": {**record.recipe, "offload": "model"}})
    file = tmp_path / "other.json"
    file.write_text(elsewhere.to_json())
    capsys.readouterr()
    arguments = ["rerun", str(file), "-o", str(tmp_path / "again.png"), "--device", "cpu"]
    assert is_refusal(main(arguments), capsys.readouterr().err, "offload", "none without a GPU")
    assert main([*arguments, "--offload", "none"]) == 0
    assert (tmp_path / "again.png").read_bytes() == path.read_bytes()

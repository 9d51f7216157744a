"""`kinoform rerun` and `describe`: a file tells how it was made, and is made again to the byte."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

from lab.main import main
from shared.artifacts.media import TAG, read_image, write_image
from shared.artifacts.run_record import RunRecord, read_record
from tests.lab.command import is_refusal, kinoform
from tests.lab.kinds.test_asset import SHORT as SHORT_ASSET
from tests.lab.kinds.test_clip import SHORT as SHORT_CLIP
from tests.shared.models.adapters import files
from tests.tiny import tiny_unet, tiny_vae
from tests.video.tiny import build_video_folder

RUNS = {
    "clip.mp4": ["clip", *SHORT_CLIP],
    "clip.gif": ["clip", *SHORT_CLIP],
    "clip.mov": ["clip", *SHORT_CLIP],
    "clip.webp": ["clip", *SHORT_CLIP],
    "clip.apng": ["clip", *SHORT_CLIP],
    "image.png": ["image", "--steps", "2"],
    "image.jpg": ["image", "--steps", "2"],
    "image.webp": ["image", "--steps", "2"],
    "asset.glb": ["asset", *SHORT_ASSET],
}


def make(model, path, *arguments):
    name, *flags = RUNS[path.name]
    assert main([name, "a red cube moving left", "--model", str(model), *flags, "--seed", "5", *arguments]) == 0


@pytest.mark.parametrize("name", [name for name in RUNS if not name.startswith("asset")])
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


def test_a_clip_of_a_picture_is_made_again_where_the_picture_is_the_same(tmp_path, capsys):
    model = build_video_folder(tmp_path / "model", known=0.3)
    path, picture, moved = (tmp_path / name for name in ("clip.mp4", "first.png", "moved.png"))
    write_image(picture, np.full((64, 64, 3), 200, np.uint8))
    make(model, path, "-o", str(path), "--image", str(picture))
    picture.rename(moved)
    assert main(["rerun", str(path)]) == 2
    assert "image: expected a file that exists, got " in capsys.readouterr().err
    assert main(["rerun", str(path), "--image", str(moved)]) == 0
    assert (tmp_path / "clip-rerun.mp4").read_bytes() == path.read_bytes()
    write_image(picture, np.full((64, 64, 3), 100, np.uint8))
    code = main(["rerun", str(path)])
    assert is_refusal(code, capsys.readouterr().err.splitlines()[-1], "the file it was made with", "--image")


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
    write_image(path, read_image(path), {TAG: older.to_json()})
    capsys.readouterr()
    assert main(["rerun", str(path)]) == 0
    assert "made with torch 1.0" in capsys.readouterr().err


def test_a_record_of_something_else_is_refused(model, tmp_path, capsys):
    path = tmp_path / "image.png"
    make(model, path, "-o", str(path))
    record = read_record(path)
    for update, part in (
        ({"command": "song"}, "clip, image, asset"),
        ({"recipe": {**record.recipe, "stesp": 3}}, "Did you mean steps?"),
        ({"recipe": {**record.recipe, "steps": -1}}, "steps"),
        ({"recipe": {"prompt": "x", "seed": 5}}, "names no model"),
        ({"seed": 6}, "the recipe's seed is 5"),
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


HOSTILE = "x\x1b]0;mine\x07\x1b[2J\u202egpj\x9b31m\r\nkinoform: done"
SHOWN = r"x\x1b]0;mine\x07\x1b[2J\u202egpj\x9b31m\r\nkinoform: done"


def is_harmless(text):
    """Whether a terminal shows `text` and does nothing: line breaks apart, no control and no invisible character."""
    return all(line.isprintable() for line in text.split("\n"))


def test_what_a_file_says_does_not_steer_the_terminal(model, tmp_path, capsys):
    """A record of somebody else's may hold anything; `describe` and `rerun` show it and do not send it."""
    path = tmp_path / "image.png"
    make(model, path, "-o", str(path))
    record = read_record(path)
    change = {
        "platform": HOSTILE,
        "kinoform_version": HOSTILE,
        "versions": {**record.versions, "torch": HOSTILE, HOSTILE: HOSTILE},
        "recipe": {**record.recipe, "prompt": HOSTILE, "negative": HOSTILE},
    }
    write_image(path, read_image(path), {TAG: record.model_copy(update=change).to_json()})
    capsys.readouterr()
    assert main(["describe", str(path)]) == 0
    shown = capsys.readouterr().out
    assert is_harmless(shown)
    assert {f"platform: {SHOWN}", f"  prompt: {SHOWN}", f"  {SHOWN}: {SHOWN}"} <= set(shown.splitlines())
    assert main(["describe", str(path), "--json"]) == 0
    shown = capsys.readouterr().out
    assert is_harmless(shown)
    assert json.loads(shown)["record"]["platform"] == HOSTILE
    for more in ([], ["--json"]):
        assert main(["rerun", str(path), "-o", str(tmp_path / "again.png"), *more]) == 0
        said = capsys.readouterr()
        assert is_harmless(said.out)
        assert is_harmless(said.err)
        assert f"made with platform {SHOWN}" in said.err
    other = tmp_path / "other.json"
    for update in ({"command": HOSTILE}, {HOSTILE: 1}, {"recipe": {**record.recipe, HOSTILE: 1}}):
        other.write_text(json.dumps({**record.model_dump(mode="json"), **update}))
        assert main(["rerun", str(other), "-o", str(tmp_path / "o.png")]) == 2
        assert is_harmless(capsys.readouterr().err)


def test_what_the_user_names_does_not_steer_it_either(model, tmp_path, capsys):
    path = tmp_path / "a\x1b[2J\u202e.png"
    words = ["a red cube \x1b]0;x\x07", "--negative", "\x1b[31mblue"]
    assert main(["image", *words, "--model", str(model), "--steps", "1", "-o", str(path)]) == 0
    said = capsys.readouterr()
    assert path.exists()
    assert is_harmless(said.out)
    assert is_harmless(said.err)
    assert r"a\x1b[2J\u202e.png" in said.out


def test_nan_in_a_record_is_refused_by_describe(model, tmp_path, capsys):
    path = tmp_path / "image.png"
    make(model, path, "-o", str(path))
    text = read_record(path).to_json().replace('"guidance_scale": 5.0', '"guidance_scale": NaN')
    (tmp_path / "a.json").write_text(text)
    capsys.readouterr()
    for arguments in (["describe"], ["describe", "--json"], ["rerun"]):
        assert is_refusal(main([*arguments, str(tmp_path / "a.json")]), capsys.readouterr().err, "NaN")


def test_adapters_are_read_again_and_may_have_moved(model, tmp_path, capsys):
    lora = files.kohya(tmp_path, *files.random_layers(targets=files.ATTENTION))
    word = files.save(tmp_path / "word.safetensors", {"zork": torch.randn(1, 32)})
    made, plain = tmp_path / "image.png", tmp_path / "plain.png"
    arguments = ["image", "a red zork", "--model", str(model), "--steps", "2"]
    assert main([*arguments, "--lora", f"{lora}:0.5", "--embedding", word, "-o", str(made)]) == 0
    assert "does not know" not in capsys.readouterr().err
    assert main([*arguments, "-o", str(plain)]) == 0
    assert "does not know" in capsys.readouterr().err
    assert (read_image(made) != read_image(plain)).any()
    assert set(read_record(made).inputs) == {"lora.0", "embeddings.0"}
    assert main(["rerun", str(made)]) == 0
    again = tmp_path / "image-rerun.png"
    assert again.read_bytes() == made.read_bytes()

    shutil.move(lora, tmp_path / "moved.safetensors")
    capsys.readouterr()
    assert is_refusal(main(["rerun", str(made)]), capsys.readouterr().err, "lora.0", "a file that exists")
    assert main(["rerun", str(made), "--lora", str(tmp_path / "moved.safetensors")]) == 0
    assert again.read_bytes() == made.read_bytes()
    two = ["--lora", word, "--lora", word]
    capsys.readouterr()
    assert is_refusal(main(["rerun", str(made), *two]), capsys.readouterr().err, "--lora", "1 files", "got 2")
    files.kohya(tmp_path, *files.random_layers(5, files.ATTENTION))
    capsys.readouterr()
    assert main(["rerun", str(made)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "expected the file it was made with" in last
    assert last.endswith("Say where that is: --lora FILE")


@pytest.mark.parametrize("name", ["image.png", "clip.mp4", "asset.glb"])
def test_parts_in_a_model_s_place_are_recorded_and_may_have_moved(model, tmp_path, capsys, name):
    tiny_vae(7).save_pretrained(tmp_path / "vae")
    tiny_unet(7).save_pretrained(tmp_path / "unet")
    made, plain = tmp_path / name, tmp_path / "plain" / name
    make(model, made, "-o", str(made), "--vae", str(tmp_path / "vae"), "--unet", str(tmp_path / "unet"))
    plain.parent.mkdir()
    make(model, plain, "-o", str(plain))
    assert made.read_bytes() != plain.read_bytes()
    record = read_record(made)
    weights = {key: tmp_path / key / "diffusion_pytorch_model.safetensors" for key in ("vae", "unet")}
    assert record.inputs == {key: hashlib.sha256(file.read_bytes()).hexdigest() for key, file in weights.items()}
    assert {file.split("/")[0] for file in record.model.hashes} == {"text_encoder", "temporal"} - (
        {"temporal"} if name == "image.png" else set()
    )  # its own had no part in it

    shutil.move(tmp_path / "vae", tmp_path / "moved")
    capsys.readouterr()
    assert is_refusal(main(["rerun", str(made)]), capsys.readouterr().err, "vae", "a file that exists")
    assert main(["rerun", str(made), "--vae", str(tmp_path / "moved")]) == 0
    assert made.with_name(f"{made.stem}-rerun{made.suffix}").read_bytes() == made.read_bytes()
    capsys.readouterr()
    tiny_vae(8).save_pretrained(tmp_path / "moved")
    assert main(["rerun", str(made), "--vae", str(tmp_path / "moved")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "expected the file it was made with" in last
    assert last.endswith("Say where that is: --vae FILE")

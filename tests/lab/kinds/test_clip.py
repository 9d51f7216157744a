"""`kinoform clip` on a tiny model: files, records, and models and sizes that do not fit."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lab.main import main
from shared.artifacts.media import read_clip
from shared.artifacts.run_record import read_record
from tests.lab.command import is_refusal
from tests.tiny import build_image_folder
from tests.video.motion.adapters import build_adapter, build_original
from video.generate import generate_clip, load_video_model
from video.recipe import ClipRecipe

SHORT = ["--steps", "4", "--frames", "3", "--size", "32x32"]


def run(model, *arguments):
    return main(["clip", "a red cube moving left", "--model", str(model), *SHORT, *arguments])


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif", "clip"])
def test_every_format_has_the_frames_and_the_record(model, tmp_path, capsys, name):
    path = tmp_path / name
    assert run(model, "-o", str(path), "--fps", "10") == 0
    clip, record = read_clip(path), read_record(path)
    assert clip.frames.shape == (3, 32, 32, 3)
    assert clip.fps == pytest.approx(10)
    assert record.command == "clip"
    assert ClipRecipe.parse(record.recipe) == ClipRecipe(
        prompt="a red cube moving left", model=str(model), frames=3, fps=10, width=32, height=32, steps=4
    )
    assert set(record.model.hashes) == {
        f"{part}.safetensors"
        for part in (
            "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model",
            "temporal/diffusion_pytorch_model",
        )
    }  # fmt: skip
    assert capsys.readouterr().out == f"wrote {path}\n"


def test_frames_are_those_of_the_generator(model, tmp_path):
    path = tmp_path / "clip"
    assert run(model, "-o", str(path)) == 0
    recipe = ClipRecipe.parse(read_record(path).recipe)
    *_, last = generate_clip(load_video_model(model), recipe)
    np.testing.assert_array_equal(read_clip(path).frames, last.frames[0])


def test_json_says_what_a_program_wants(model, tmp_path, capsys):
    path = tmp_path / "clip.mp4"
    arguments = ["clip", "a red dragon", "--model", str(model), *SHORT, "-o", str(path), "--seed", "7", "--json"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert out.count("\n") == 1
    assert (result["outputs"], result["seed"], result["frames"]) == ([str(path)], 7, 3)
    assert result["unknown_words"] == ["dragon"]
    assert set(result["seconds"]) == {"load", "sample", "decode", "write", "total"}
    assert result["peak_memory_bytes"] > 2**20
    assert 'does not know "dragon"' in err


def test_a_prompt_beyond_the_model_s_tokens_is_said(model, tmp_path, capsys):
    prompt = "a red cube on top of " * 5
    assert main(["clip", prompt, "--model", str(model), *SHORT, "-o", str(tmp_path / "clip.mp4")]) == 0
    assert "tokens too long" in capsys.readouterr().err


def weights(folder, part):
    return next((folder / part).glob("*.safetensors"))


def cut_off(folder):
    file = weights(folder, "vae")
    file.write_bytes(file.read_bytes()[:-100])


def wrong_shapes(folder):
    tensors = load_file(weights(folder, "unet"))
    tensors["conv_in.weight"] = torch.zeros(32, 3, 3, 3)
    save_file(tensors, weights(folder, "unet"))


def no_matching_keys(folder):
    tensors = {f"old.{name}": tensor for name, tensor in load_file(weights(folder, "unet")).items()}
    save_file(tensors, weights(folder, "unet"))


def not_a_number(folder):
    tensors = load_file(weights(folder, "text_encoder"))
    tensors[min(tensors)].view(-1)[0] = torch.nan
    save_file(tensors, weights(folder, "text_encoder"))


def temporal_not_a_number(folder):
    tensors = load_file(weights(folder, "temporal"))
    tensors[min(tensors)].view(-1)[0] = torch.nan
    save_file(tensors, weights(folder, "temporal"))


def no_index(folder):
    (folder / "model_index.json").unlink()


def pickled(folder):
    file = weights(folder, "unet")
    file.rename(file.with_suffix(".bin"))


def no_temporal(folder):
    shutil.rmtree(folder / "temporal")


def gone(folder):
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("fault", "part"),
    [
        (cut_off, "vae"),
        (wrong_shapes, "unet"),
        (no_matching_keys, "unet"),
        (not_a_number, "text_encoder"),
        (temporal_not_a_number, "temporal"),
        (no_index, "model_index.json"),
        (pickled, "unet"),
        (no_temporal, "kinoform train video"),
        (gone, "no such folder"),
    ],
)
def test_a_broken_model_is_one_line_and_no_file(model, tmp_path, capsys, fault, part):
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    fault(broken)
    code = run(broken, "-o", str(tmp_path / "clip.mp4"))
    out, err = capsys.readouterr()
    assert is_refusal(code, err, part), err
    assert out == ""
    assert not list(tmp_path.glob("*clip*"))


@pytest.mark.parametrize(("size", "part"), [("30x32", "width"), ("32x30", "height")])
def test_a_size_that_the_codec_cannot_make_is_one_line(model, tmp_path, capsys, size, part):
    code = run(model, "--size", size, "-o", str(tmp_path / "clip.mp4"))
    assert is_refusal(code, capsys.readouterr().err, part, "a multiple of 4", "got 30")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    """An image model, and a motion adapter as a folder and as a single file."""
    folder = tmp_path_factory.mktemp("motion")
    build_image_folder(folder / "image")
    build_adapter(folder / "adapter")
    build_original(folder / "mm.safetensors")
    return folder


@pytest.mark.parametrize("name", ["adapter", "mm.safetensors"])
def test_a_motion_adapter_makes_clips_of_an_image_model_and_reruns(motion, tmp_path, name):
    made, again = tmp_path / "a.mp4", tmp_path / "b.mp4"
    assert run(motion / "image", "--motion-adapter", str(motion / name), "-o", str(made)) == 0
    record = read_record(made)
    assert set(record.inputs) == {"motion_adapter"}
    moved = tmp_path / "moved.safetensors"
    shutil.copy(record.recipe["motion_adapter"], moved)
    if name == "mm.safetensors":
        assert main(["rerun", str(made), "-o", str(again), "--motion-adapter", str(moved)]) == 0
    else:
        assert main(["rerun", str(made), "-o", str(again)]) == 0
    assert again.read_bytes() == made.read_bytes()
    *_, last = generate_clip(
        load_video_model(motion / "image", motion_adapter=[record.recipe["motion_adapter"]]),
        ClipRecipe.parse(record.recipe),
    )
    assert read_clip(made).frames.shape == last.frames[0].shape


def test_a_rerun_wants_the_same_motion_adapter(motion, tmp_path, capsys):
    made = tmp_path / "a.mp4"
    assert run(motion / "image", "--motion-adapter", str(motion / "adapter"), "-o", str(made)) == 0
    other = build_original(tmp_path / "other.safetensors", seed=1)
    capsys.readouterr()
    code = main(["rerun", str(made), "--motion-adapter", str(other), "-o", str(tmp_path / "b.mp4")])
    err = capsys.readouterr().err
    assert code == 2
    assert f"motion_adapter {other}: expected the file it was made with" in err


@pytest.mark.parametrize(
    ("of", "adapter", "more", "said"),
    [
        ("image", "adapter", ["--pipeline-class", "X"], "motion_adapter and pipeline_class do not go together"),
        ("image", "adapter", ["--image", "x.png"], "motion_adapter and image do not go together"),
        ("image", "none", [], "motion_adapter: expected a file that exists"),
        ("image", "mm.ckpt", [], "a pickle"),
        ("world", "adapter", [], "expected one for widths 64, 128, 192"),
    ],
)
def test_what_does_not_go_with_a_motion_adapter(motion, tmp_path, capsys, of, adapter, more, said):
    (motion / "mm.ckpt").write_bytes(b"x")
    model = of if of == "world" else motion / of
    code = run(model, "--motion-adapter", str(motion / adapter), *more, "-o", str(tmp_path / "a.mp4"))
    assert is_refusal(code, capsys.readouterr().err, said)

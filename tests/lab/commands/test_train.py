"""`kinoform train`: stages that begin, are resumed, and leave a model."""

import json
import shutil

import numpy as np
import pytest
from diffusers import AutoencoderTiny

from lab.main import main
from shared.artifacts.formats.image_file import write_image
from shared.artifacts.media import read_clip
from tests.lab.command import is_refusal
from tests.tiny import build_image_folder
from tests.video.tiny import build_video_folder, write_clips
from video.folder import load_temporal

SMALL = ["--precision", "fp32", "--batch-size", "2"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    assert main(["world", "render", "--out", str(folder), "--count", "4"]) == 0
    return folder


def test_the_autoencoder_stage_leaves_an_autoencoder(pictures, tmp_path, capsys):
    arguments = ["--data", str(pictures), "--out", str(tmp_path / "new" / "model"), "--channels", "8"]
    assert main(["train", "autoencoder", *arguments, *SMALL, "--steps", "3"]) == 0
    out, err = capsys.readouterr()
    assert AutoencoderTiny.from_pretrained(tmp_path / "new" / "model" / "vae").config["latent_channels"] == 8
    assert out.startswith("trained autoencoder: 3 steps, loss ")
    said, first, *_ = err.splitlines()
    assert said == f"kinoform: {pictures}: 4 pictures, 64x64, 14 words"
    assert first.startswith("kinoform: train autoencoder: 1/3 loss ")


def test_the_video_stage_goes_on_where_it_stopped(tmp_path, capsys):
    data, out = write_clips(tmp_path / "data"), build_image_folder(tmp_path / "model")
    small = [*SMALL, "--embed-dim", "16", "--head-dim", "16", "--frames", "4"]
    arguments = ["train", "video", "--data", str(data), "--out", str(out), *small, "--json"]
    assert main([*arguments, "--steps", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 1
    assert main([*arguments, "--steps", "3", "--resume", "--preview-every", "3"]) == 0
    shown = capsys.readouterr()
    looks = {"loss-video.png", *(f"video-{step:06d}.{kind}" for step in (3,) for kind in ("png", "mp4"))}
    assert {file.name for file in (out / "previews").iterdir()} == looks
    assert read_clip(out / "previews" / "video-000003.mp4").frames.shape[0] == 16
    logged = [json.loads(line) for line in (out / "train-log.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in logged] == [("video", 1), ("video", 2), ("video", 3)]
    result = json.loads(shown.out)
    assert shown.err.splitlines()[1].startswith("kinoform: train video: 2/3 ")
    assert (result["steps"], result["outputs"]) == (3, [str(out)])
    assert result["loss"] > 0
    assert load_temporal(out).alphas() != {}


def test_words_of_the_captions_that_a_stage_cannot_learn_are_warned_of(tmp_path, capsys):
    data, out = write_clips(tmp_path / "data"), build_image_folder(tmp_path / "model")
    index = data / "captions.jsonl"
    index.write_text(index.read_text().replace("a red cube moving up", "a striped zebra moving up"))
    small = [*SMALL, "--embed-dim", "16", "--head-dim", "16", "--frames", "4", "--steps", "1"]
    assert main(["train", "video", "--data", str(data), "--out", str(out), *small]) == 0
    assert "warning: the model does not know words of the captions and leaves them out: 'striped', 'zebra'. " in (
        capsys.readouterr().err
    )


def test_the_image_stage_learns_the_words_of_the_captions(tmp_path, capsys):
    """Pictures of a zebra: the model that they are trained into knows the word, and the command says nothing of it."""
    data, out = tmp_path / "data", build_image_folder(tmp_path / "model")
    data.mkdir()
    for index in range(3):
        write_image(data / f"{index}.png", np.full((64, 64, 3), 60 * index, np.uint8))
        (data / f"{index}.txt").write_text("A striped ZEBRA galloping, in the Straße 7")
    train = ["train", "image", "--data", str(data), "--out", str(out), *SMALL, "--steps", "1", "--start", "continue"]
    assert main([*train, "--size", "64"]) == 0
    make = ["image", "a red striped zebra in the straße 7", "--model", str(out), "--steps", "1"]
    assert main([*make, "-o", str(tmp_path / "zebra.png")]) == 0
    assert "does not know" not in capsys.readouterr().err
    assert main([*make[:1], "a giraffe", *make[2:], "-o", str(tmp_path / "giraffe.png")]) == 0
    assert "does not know" in capsys.readouterr().err


def test_a_finished_training_is_not_done_again(pictures, tmp_path, capsys):
    arguments = ["--data", str(pictures), "--out", str(tmp_path), "--channels", "8", *SMALL, "--steps", "1"]
    assert main(["train", "autoencoder", *arguments]) == 0
    capsys.readouterr()
    vae = (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "vae")  # as when it was killed before that was written
    assert main(["train", "autoencoder", *arguments, "--resume"]) == 0
    assert (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").read_bytes() == vae


@pytest.mark.parametrize(
    ("stage", "fault", "parts"),
    [
        ("autoencoder", ["--resume"], ("resume", "a checkpoint", "Start without --resume")),
        ("image", [], ("autoencoder", "Train it first")),
        ("autoencoder", ["--steps", "0"], ("steps", "got 0")),
        ("autoencoder", ["--precision", "fp8"], ("precision", "got fp8")),
        ("autoencoder", ["--preset", "imgae"], ("train preset", "Did you mean image?")),
        ("autoencoder", ["--preset", "video"], ("unknown key alpha_learning_rate",)),
        ("video", ["--frames", "1"], ("frames", "from 2", "got 1")),
        ("video", ["--model", "no/such/folder"], ("no/such/folder",)),
    ],
)
def test_wrong_input_is_one_line(pictures, tmp_path, capsys, stage, fault, parts):
    code = main(["train", stage, "--data", str(pictures), "--out", str(tmp_path / "model"), *fault])
    assert is_refusal(code, capsys.readouterr().err, *parts)


@pytest.mark.parametrize(
    ("text", "part"), [(None, "captions.jsonl"), ("not json\n", "line 1"), ('{"file": "a.png"}\n', '"caption"')]
)
def test_a_data_folder_that_is_none_is_one_line(tmp_path, capsys, text, part):
    data = tmp_path / "data"
    data.mkdir()
    if text is not None:
        (data / "captions.jsonl").write_text(text)
    code = main(["train", "autoencoder", "--data", str(data), "--out", str(tmp_path / "model")])
    assert is_refusal(code, capsys.readouterr().err, part)


def test_a_new_object_from_pictures_without_captions(tmp_path, capsys):
    """The three stages, and a picture made with what they leave."""
    data, model = tmp_path / "data", str(build_image_folder(tmp_path / "model"))
    data.mkdir()
    for index in range(3):
        write_image(data / f"{index}.png", np.full((64, 64, 3), 60 * index, np.uint8))
    small = [*SMALL, "--steps", "2", "--model", model, "--concept", "zork"]
    own = {"lora": [], "textual-inversion": [], "dreambooth": ["--class-prompt", "a cone", "--prior-pictures", "2"]}
    for stage, flags in own.items():
        out = tmp_path / stage
        arguments = ["train", stage, "--data", str(data), "--out", str(out), *small, *flags, "--preview-every", "2"]
        assert main(arguments) == 0
        shown = capsys.readouterr()
        assert shown.out.startswith(f"trained {stage}: 2 steps, loss ")
        assert "does not know" not in shown.err
        assert (out / "previews" / f"{stage}-000002.png").is_file()
        adapters = ["--embedding", str(out / "learned_embeds.safetensors")]
        if stage != "textual-inversion":
            adapters += ["--lora", str(out / "pytorch_lora_weights.safetensors") + ":0.8"]
        make = ["image", "a red zork", "--model", model, *adapters, "--steps", "1"]
        assert main([*make, "-o", str(tmp_path / f"{stage}.png")]) == 0
        assert "does not know" not in capsys.readouterr().err
    assert is_refusal(
        main(["train", "dreambooth", "--data", str(data), "--out", str(tmp_path / "x"), *small]),
        capsys.readouterr().err, "class_prompt", "a value", "got nothing",
    )  # fmt: skip


def test_a_lora_of_a_video_model_from_clips_is_one_of_a_clips(tmp_path, capsys):
    data, model, out = write_clips(tmp_path / "data"), str(build_video_folder(tmp_path / "model")), tmp_path / "out"
    index = data / "captions.jsonl"
    index.write_text(index.read_text().splitlines()[0])  # one caption: one clip to look at
    arguments = ["train", "video-lora", "--data", str(data), "--out", str(out), "--model", model, "--frames", "4"]
    assert main([*arguments, *SMALL, "--steps", "2", "--preview-every", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("trained video-lora: 2 steps, loss ")
    assert "does not know" not in shown.err
    looks = {"loss-video-lora.png", "video-lora-000002.png", "video-lora-000002.mp4"}
    assert {file.name for file in (out / "previews").iterdir()} == looks
    make = ["clip", "a red cube moving up", "--model", model, "--steps", "1", "--frames", "4"]
    lora = ["--lora", str(out / "pytorch_lora_weights.safetensors") + ":0.8"]
    frames = []
    for flags in ([], lora):
        assert main([*make, *flags, "-o", str(tmp_path / "a.apng")]) == 0
        frames.append(read_clip(tmp_path / "a.apng").frames)
    assert "do nothing" not in capsys.readouterr().err
    assert (frames[0] != frames[1]).any()

"""`kinoform train all`: from clips to a model that says them, through a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lab.main import main
from lab.training import stages
from lab.training.own_data import FINEST, PLAN, fineness_of, read_plan
from lab.training.stages import LOG
from shared.artifacts.formats.image_file import read_image, write_image
from shared.models.image_model import load_image_model, load_text
from shared.recipe import load_preset
from tests.lab.command import environment, is_refusal
from tests.lab.tiny_stages import tiny_presets
from tests.video.tiny import build_video_folder, write_clips
from video.folder import load_temporal
from video.network import spatial_pairs

TINY = ["--minutes", "0.01", "--size", "16"]


def digest(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_killed_in_the_middle_it_goes_on_and_ends_with_a_model(tmp_path, capsys, monkeypatch):
    start = build_video_folder(tmp_path / "start")
    monkeypatch.setattr(stages, "load_preset", tiny_presets(start))
    data, out = write_clips(tmp_path / "data"), tmp_path / "model"
    captions = ["a striped zebra", "a walrus"]
    lines = [
        json.dumps({"file": f"clips/{w}.mp4", "caption": c}) for w, c in zip(("left", "up"), captions, strict=True)
    ]
    (data / "captions.jsonl").write_text("\n".join(lines) + "\n")
    for other in ("right", "down"):
        (data / "clips" / f"{other}.mp4").unlink()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.lab.tiny_stages", start, "train", "all", "--data", data, "--out", out, *TINY],
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not ((out / LOG).is_file() and '"image"' in (out / LOG).read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    plan, vae = read_plan(out), digest(out / "vae")
    assert [stage.done for stage in plan.stages] == [True, False, False, False]

    again = ["train", "all", "--data", str(data), "--out", str(out), "--resume"]
    assert main(again) == 0
    said = capsys.readouterr()
    assert "kinoform: train autoencoder" not in said.err
    assert digest(out / "vae") == vae
    after = read_plan(out)
    assert after.done
    assert [stage.steps for stage in after.stages[:2]] == [stage.steps for stage in plan.stages[:2]]
    assert load_text(out).unknown_words("a red cube, a striped walrus, a zebra") == []
    assert load_text(out).unknown_words("giraffe") == ["giraffe"]
    assert load_temporal(out).alphas()
    for stage in ("autoencoder", "image", "video", "scorer"):
        assert np.ptp(read_image(out / "previews" / f"{stage}.png")) > 100
        assert not (out / f"{stage}.pt").exists()
    assert said.out.splitlines()[-1] == f"try: kinoform clip 'a striped zebra' --model {out} -o clip.mp4"

    weights = digest(out / "unet")
    assert main(again) == 0
    assert "already done" in capsys.readouterr().err
    assert digest(out / "unet") == weights


def test_from_nothing_it_uses_nothing_of_the_embedded_model(tmp_path, monkeypatch):
    """Networks of a tiny preset, whose shapes the embedded one's do not fit."""
    assert load_preset("train", "video-joint").get("fineness", 1) == 1  # clips of one's own may have few frames
    presets = {
        "autoencoder": {"channels": 8, "latent_channels": 4},
        "image": {"unet_channels": [16, 32], "text_width": 48},
        "video": {"embed_dim": 16},
        "video-joint": {"start": "continue", "image_learning_rate": 1e-4, "stills": 2, "known_share": 0.5},
        "scorer": {"batch_size": 4, "image_width": 32, "image_layers": 1},
    }
    monkeypatch.setattr(stages, "load_preset", lambda kind, name: {"batch_size": 2, **presets[name]})
    data, out = write_clips(tmp_path / "data"), tmp_path / "model"
    assert main(["train", "all", "--data", str(data), "--out", str(out), *TINY, "--start", "new"]) == 0
    unet = load_image_model(out).unet
    assert (unet.config["in_channels"], unet.config["cross_attention_dim"]) == (4, 48)
    temporal = load_temporal(out)
    assert temporal.config["channels"] == [resnet.out_channels for resnet, _ in spatial_pairs(unet)]
    assert temporal.known is not None  # learned at last, along with the image network


def test_clips_are_read_as_finely_as_the_shortest_of_them_allows():
    assert [fineness_of(lengths) for lengths in ([46, 60], [46, 45], [300], [300, 12], [])] == [3, 2, FINEST, 1, 1]


def test_how_finely_is_planned_by_the_clips_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.commands.train_all._train", lambda *_: None)
    data, out = write_clips(tmp_path / "data", frames=31), tmp_path / "model"
    assert main(["train", "all", "--data", str(data), "--out", str(out), *TINY, "--start", "new"]) == 0
    plan = read_plan(out)
    videos = [stages.stage_recipe(plan, stage, 20) for stage in plan.stages if stage.part == "video"]
    assert [recipe.fineness for recipe in videos] == [2, 2]


@pytest.mark.parametrize(
    ("files", "flags", "parts"),
    [
        ({}, ["--resume"], ("resume", PLAN, "Start without --resume")),
        ({"notes.txt": "mine"}, [], ("--out", "an empty folder", "Give a new folder")),
        ({PLAN: "{}"}, [], ("--out", "an empty folder", "--resume goes on")),
        ({PLAN: "{}"}, ["--resume"], ("a plan of `train all`", "Train into a new folder")),
        ({}, ["--minutes", "0"], ("--minutes", "above 0", "got 0")),
        ({}, ["--minutes", "nan"], ("--minutes", "got nan")),
        ({}, ["--start", "over"], ("--start", "embedded or new", "got over")),
        ({}, ["--size", "12"], ("--size", "a multiple of 8", "got 12")),
    ],
)
def test_wrong_input_is_one_line(tmp_path, capsys, files, flags, parts):
    (tmp_path / "data").mkdir()
    write_image(tmp_path / "data" / "a.png", np.full((16, 16, 3), 200, np.uint8))
    (tmp_path / "data" / "a.txt").write_text("a zebra")
    out = tmp_path / "out"
    out.mkdir()
    for name, text in files.items():
        (out / name).write_text(text)
    code = main(["train", "all", "--data", str(tmp_path / "data"), "--out", str(out), *flags])
    assert is_refusal(code, capsys.readouterr().err, *parts)


def test_a_plan_is_not_resumed_on_other_data(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    plan = {"data": str(tmp_path / "then"), "minutes": 5, "size": 64, "seed": 0, "stages": []}
    (tmp_path / "out" / PLAN).write_text(json.dumps(plan))
    (tmp_path / "now").mkdir()
    code = main(["train", "all", "--data", str(tmp_path / "now"), "--out", str(tmp_path / "out"), "--resume"])
    assert is_refusal(code, capsys.readouterr().err, "--data with --resume", str(tmp_path / "then"))

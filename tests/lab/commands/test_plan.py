"""`kinoform plan` on a tiny model: what it prints, what it refuses, and whether it is true."""

import json

import pytest

from lab.commands.plan import as_flags, parse_size
from lab.main import main
from shared.errors import InputError
from tests.lab.command import is_refusal, kinoform
from video.recipe import ClipRecipe

SIZE = ["--steps", "1", "--frames", "32", "--size", "96x96"]


def plan(capsys, model, *arguments):
    assert main(["plan", "clip", "a red cube", "--model", str(model), *SIZE, "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)["planned"]


def test_it_says_weights_activations_and_peak(model, capsys):
    planned = plan(capsys, model)
    assert planned["peak_bytes"] == sum(planned["kinds"].values())
    assert main(["plan", "clip", "a red cube", "--model", str(model), *SIZE]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("weights ", "activations ", "peak ", "MiB"))


def test_times_come_with_a_calibration(model, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("shared.plan.calibration.ENOUGH_SECONDS", 0.01)
    assert plan(capsys, model)["seconds"] is None
    assert main(["plan", "calibrate"]) == 0
    assert "GFLOP/s" in capsys.readouterr().out
    assert plan(capsys, model)["seconds"] > 0


@pytest.mark.parametrize("stage", ["autoencoder", "image", "scorer", "video"])
def test_every_stage_of_training_has_a_plan_that_its_batch_makes_larger(stage, model, capsys):
    own = ["--model", str(model)]
    sizes = {"image": ["--size", "32", *own], "video": ["--frames", "4", *own]}
    peaks = []
    for batch in ("2", "16"):
        assert main(["plan", "train", stage, *sizes.get(stage, ["--size", "16"]), "--batch-size", batch, "--json"]) == 0
        planned = json.loads(capsys.readouterr().out)["planned"]
        assert planned["kinds"]["training state"] > planned["weights_bytes"] * 0.5
        peaks.append(planned["peak_bytes"] - planned["kinds"]["base"])
    assert peaks[0] < peaks[1]


def test_data_that_stays_in_memory_is_in_the_plan(model, capsys, tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"file": "a.mp4", "caption": "a red cube"}\n' * 5000)
    peaks = []
    for data in ([], ["--data", str(tmp_path)]):
        flags = ["--model", str(model), "--frames", "4", "--fineness", "1"]
        assert main(["plan", "train", "video", *flags, *data, "--json"]) == 0
        peaks.append(json.loads(capsys.readouterr().out)["planned"]["peak_bytes"])
    latents = 5000 * 4 * 4 * 16 * 16 * 2  # clips, frames, channels, side, side, bytes
    assert 0.9 * latents < peaks[1] - peaks[0] < 1.5 * latents


def test_a_training_that_does_not_fit_is_refused_with_what_would(capsys):
    training = ["plan", "train", "autoencoder", "--size", "64", "--batch-size", "64"]
    assert main([*training, "--json"]) == 0
    peak = json.loads(capsys.readouterr().out)["planned"]["peak_bytes"]
    code = main([*training, "--memory", str(peak - 10 * 2**20)])
    assert is_refusal(code, capsys.readouterr().err, "memory for autoencoder", "at most", "--checkpointing takes")


def test_what_does_not_fit_is_refused_with_what_would(model, capsys):
    kinds = plan(capsys, model, "--decode", "whole")
    budget = kinds["peak_bytes"] - 2**20
    code = main(
        ["plan", "clip", "a red cube", "--model", str(model), *SIZE, "--decode", "whole", "--memory", str(budget)]
    )
    err = capsys.readouterr().err
    assert is_refusal(code, err, "memory for clip", "at most", "--window 16 takes"), err


def test_what_never_fits_is_refused_too(model, capsys):
    code = main(["plan", "image", "a red cube", "--model", str(model), "--memory", "1M"])
    assert is_refusal(code, capsys.readouterr().err, "memory for image", "smaller model")


def test_sizes():
    assert [parse_size(text) for text in ("1k", "1.5 GiB", "2GB", "7")] == [1024, 3 * 2**29, 2**31, 7]
    for text in ("", "many", "-1G", "0"):
        with pytest.raises(InputError):
            parse_size(text)


def test_changes_are_flags():
    recipe = ClipRecipe(prompt="a red cube")
    assert as_flags({"decode_frames": 4, "width": 64, "height": 32, "compile": True}, recipe) == (
        "--decode-frames 4 --size 64x32 --compile"
    )


def test_a_plan_is_true_within_a_fifth(model, tmp_path):
    arguments = ["clip", "a red cube", "--model", model, *SIZE, "--json"]
    planned = kinoform("plan", *arguments, folder=tmp_path)
    measured = kinoform(*arguments, "-o", "out.mp4", folder=tmp_path)
    assert planned.returncode == measured.returncode == 0, planned.stderr + measured.stderr
    ratio = json.loads(planned.stdout)["planned"]["peak_bytes"] / json.loads(measured.stdout)["peak_memory_bytes"]
    assert 0.8 < ratio < 1.2

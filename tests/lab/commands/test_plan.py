"""`kinoform plan` on a tiny model: what it prints, what it refuses, and whether it is true."""

import json

import pytest
import torch

from lab.commands.plan import as_flags, as_size, does_not_fit
from lab.main import main
from shared.plan.estimate import Estimate
from tests.lab.command import is_refusal, kinoform
from video.recipe import ClipRecipe

SIZE = ["--steps", "1", "--frames", "32", "--size", "96x96"]
PICTURE = ["plan", "image", "a red cube", "--steps", "1"]
# By stage, what makes its network small: a plan follows every operation, however small its tensors are.
STAGES = {
    "autoencoder": ["--size", "16"],
    "image": ["--size", "32", "--text-layers", "1"],
    "scorer": ["--size", "16", "--image-layers", "1"],
    "video": ["--frames", "4"],
}


def planned(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["planned"]


def test_it_says_weights_activations_and_peak(model, capsys):
    told = planned(capsys, *PICTURE, "--model", model)
    assert told["peak_bytes"] == sum(told["kinds"].values())
    assert main([*PICTURE, "--model", str(model)]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("weights ", "activations ", "peak ", "MiB"))


def test_times_come_with_a_calibration(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("shared.plan.calibration.ENOUGH_SECONDS", 0.01)
    scorer = ["plan", "train", "scorer", *STAGES["scorer"]]
    assert planned(capsys, *scorer)["seconds"] is None
    assert main(["plan", "calibrate"]) == 0
    assert "GFLOP/s" in capsys.readouterr().out
    assert planned(capsys, *scorer)["seconds"] > 0


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_of_training_has_a_plan(stage, model, capsys):
    own = [] if stage in ("autoencoder", "scorer") else ["--model", str(model)]
    told = planned(capsys, "plan", "train", stage, *STAGES[stage], *own, "--batch-size", "2")
    assert told["kinds"]["training state"] > told["weights_bytes"] * 0.5


def test_a_training_is_planned_for_the_device_that_it_will_run_on(capsys):
    scorer = ["plan", "train", "scorer", *STAGES["scorer"], "--device"]
    if torch.cuda.is_available():
        told = planned(capsys, *scorer, "cuda")
        assert told["kinds"]["base"] == 0 < told["peak_bytes"]
    else:
        assert is_refusal(main([*scorer, "cuda"]), capsys.readouterr().err, "--device", "cpu or auto", "cuda")
    assert planned(capsys, *scorer, "cpu")["kinds"]["base"] > 0


def test_a_larger_batch_takes_more(capsys):
    scorer = ["plan", "train", "scorer", *STAGES["scorer"], "--batch-size"]
    few, many = (planned(capsys, *scorer, size)["activations_bytes"] for size in (2, 16))
    assert few < many


def test_data_that_stays_in_memory_is_in_the_plan(capsys, tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png", "caption": "a red cube"}\n' * 50_000)
    peaks = []
    for data in ([], ["--data", tmp_path]):
        peaks.append(planned(capsys, "plan", "train", "scorer", *STAGES["scorer"], *data)["peak_bytes"])
    pixels = 50_000 * 3 * 16 * 16  # bytes
    assert 0.9 * pixels < peaks[1] - peaks[0] < 1.5 * pixels


@pytest.mark.parametrize(
    ("saved", "needed", "hint"),
    [
        ({"window": 300}, 300, "--window 16 takes"),
        ({"window": 200, "precision": 200}, 300, "--window 16 --precision fp16 takes"),
        ({"window": 100}, 300, "No setting makes it fit"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(saved, needed, hint):
    """By one setting, else by several together, else by none."""
    recipe = ClipRecipe(prompt="a red cube", frames=32)

    def planner(other):
        changed = [key for key in saved if getattr(other, key) != getattr(recipe, key)]
        return Estimate("cpu", 0, 1000 - sum(saved[key] for key in changed), {}, [])

    savings = [{"window": 16}, {"precision": "fp16"}]
    budget = 1000 - needed
    error = does_not_fit("clip", recipe, 1000, budget, planner, lambda _: savings)
    assert all(part in str(error) for part in ("memory for clip", f"at most {as_size(budget)}", hint))


def test_a_training_that_does_not_fit_is_refused_in_one_line(capsys):
    training = ["plan", "train", "autoencoder", *STAGES["autoencoder"], "--size", "64", "--batch-size", "64"]
    peak = planned(capsys, *training)["peak_bytes"]
    code = main([*training, "--memory", str(peak - 2**20)])
    assert is_refusal(code, capsys.readouterr().err, "memory for autoencoder", "at most", "--checkpointing takes")


def test_what_never_fits_is_refused_too(model, capsys):
    code = main([*PICTURE, "--model", str(model), "--memory", "1M"])
    assert is_refusal(code, capsys.readouterr().err, "memory for image", "smaller model")


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

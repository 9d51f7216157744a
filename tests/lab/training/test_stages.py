"""Stages of `train all`: their recipes, their timing, their log."""

import json

import pytest

from lab.training.own_data import Plan, plan_stages
from lab.training.stages import LOG_SECONDS, STAGES, logged, stage_recipe, step_seconds
from shared.training.loop import TrainState
from shared.training.recipe import ImageTrainRecipe

PLAN = Plan(data="d", minutes=1, size=32, seed=7, stages=plan_stages(1, clips=True))


@pytest.mark.parametrize("stage", PLAN.stages, ids=lambda stage: stage.name)
def test_every_preset_fits_into_few_steps_and_into_many(stage):
    few, many = (stage_recipe(PLAN, stage, steps) for steps in (20, 100_000))
    assert type(few) is STAGES[stage.name][0]
    assert (few.steps, few.seed, few.warmup_steps, few.ema_decay) == (20, 7, 1, 0.5)
    assert many.warmup_steps > 10
    assert many.ema_decay > 0.99
    assert stage.name == "video" or few.size == 32


def states(steps, total):
    for step in steps:
        yield TrainState(step, total, loss=1 / step, lr=0.1, seconds=float(step), metrics={"psnr": 30.0})


def test_the_log_of_a_resumed_stage_holds_every_step_once(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.training.stages.LOG_SECONDS", 0.0)
    log = tmp_path / "log.jsonl"
    assert len(list(logged(states([1, 2], 2), "autoencoder", log))) == 2
    list(logged(states([1, 2, 3, 4], 9), "image", log))
    with open(log, "a") as file:
        file.write('{"stage": "ima')  # killed while writing
    list(logged(states([3, 4, 5], 5), "image", log))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        *(("autoencoder", step) for step in (1, 2)),
        *(("image", step) for step in (1, 2, 3, 4, 5)),
    ]
    assert lines[-1] == {"stage": "image", "step": 5, "steps": 5, "loss": 0.2, "lr": 0.1, "seconds": 5.0, "psnr": 30.0}


def test_the_log_has_the_first_and_the_last_step_of_a_fast_stage(tmp_path):
    assert LOG_SECONDS > 1
    list(logged(states(range(1, 1000), 999), "scorer", tmp_path / "log"))
    assert [json.loads(line)["step"] for line in (tmp_path / "log").read_text().splitlines()] == [1, 999]


def test_a_timing_takes_few_steps_and_leaves_no_checkpoint(tmp_path):
    taken = []

    def loop(recipe, data, out, resume):
        assert recipe.checkpoint_minutes > 1e5
        assert not resume
        for state in states(range(1, 10_000), recipe.steps):
            taken.append(state.step)
            yield state
        raise AssertionError

    assert 0 < step_seconds(loop, ImageTrainRecipe(), tmp_path, tmp_path, 5.0) < 0.1
    assert 2 <= len(taken) < 20

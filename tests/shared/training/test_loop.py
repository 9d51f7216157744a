"""Learning rate, averaged weights and checkpoints."""

import os
import random
import shutil
import signal
import time
from contextlib import suppress

import pytest
import torch
from torch import nn

from shared.errors import InputError
from shared.training import autoencoder
from shared.training.loop import Checkpoint, Ema, Training, learning_rate
from shared.training.recipe import AutoencoderTrainRecipe, StageRecipe
from tests.tolerances import close


def test_learning_rate_rises_stays_and_falls_to_nothing():
    rates = [learning_rate(s, 100, 2.0, warmup=10) for s in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (s + 1) for s in range(10)])
    assert rates[10:51] == [2.0] * 41
    assert rates[51:] == pytest.approx([2.0 * (100 - s) / 50 for s in range(51, 100)])
    assert learning_rate(100, 100, 2.0, warmup=10) == 0


def test_average_equals_a_loop():
    layer = nn.Linear(3, 2)
    ema = Ema(layer.parameters(), 0.9)
    expected = [p.detach().clone().double() for p in layer.parameters()]
    generator = torch.Generator().manual_seed(0)
    for step in range(30):
        with torch.no_grad():
            for p in layer.parameters():
                p.add_(torch.randn(p.shape, generator=generator))
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = [
            decay * e + (1 - decay) * p.detach().double() for e, p in zip(expected, layer.parameters(), strict=True)
        ]
    ema.copy_to()
    for p, e in zip(layer.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), e.float(), **close(torch.float32))


def test_average_survives_its_state():
    layer = nn.Linear(3, 2)
    ema = Ema(layer.parameters(), 0.9)
    ema.update(0)
    other = Ema(nn.Linear(3, 2).parameters(), 0.9)
    other.load_state_dict(ema.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ema.average, other.average, strict=True))


def parts():
    model = nn.Linear(2, 2)
    return {"model": model, "optimizer": torch.optim.AdamW(model.parameters())}


def test_checkpoint_holds_weights_step_clock_and_noise(tmp_path):
    mine = parts()
    checkpoint = Checkpoint(tmp_path / "deep" / "a.pt", mine, every_seconds=0)
    mine["model"](torch.ones(1, 2)).sum().backward()
    mine["optimizer"].step()
    checkpoint.seconds = 100.0
    checkpoint.save_if_due(7)
    drawn = torch.randn(3)
    theirs = parts()
    restored = Checkpoint(tmp_path / "deep" / "a.pt", theirs)
    torch.randn(5)
    restored.restore()
    assert restored.step == 7
    assert 100 <= restored.elapsed() < 200
    assert torch.equal(torch.randn(3), drawn)
    for a, b in zip(mine["model"].parameters(), theirs["model"].parameters(), strict=True):
        assert torch.equal(a, b)
    states = [p["optimizer"].state_dict()["state"] for p in (mine, theirs)]
    assert torch.equal(states[0][0]["exp_avg"], states[1][0]["exp_avg"])


def test_checkpoint_is_written_when_due_and_at_the_end(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint = Checkpoint(path, parts(), every_seconds=1000)
    checkpoint.save_if_due(1)
    assert not path.exists()
    checkpoint.save_if_due(2, last=True)
    assert torch.load(path, weights_only=True)["step"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_nothing_to_resume_from_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="Start without --resume"):
        Checkpoint(tmp_path / "a.pt", parts()).restore()


def test_a_training_takes_adamw_steps_at_the_curves_rate_and_ends_with_the_average():
    recipe = StageRecipe(steps=6, learning_rate=0.1, warmup_steps=2, ema_decay=0.5, weight_decay=0.0)
    layer, plain = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    plain.load_state_dict(layer.state_dict())
    optimizer = torch.optim.AdamW(plain.parameters(), weight_decay=0.0)
    average = plain.weight.detach().clone()
    states = []

    def loss_at(number: int):
        return 100 * layer(torch.ones(1, 2)).square().mean(), {"seen": float(number)}

    for step, state in enumerate(Training(recipe, {"layer": layer}, None).run(loss_at)):
        states.append(state)
        optimizer.param_groups[0]["lr"] = learning_rate(step, 6, 0.1, warmup=2)
        optimizer.zero_grad()
        (100 * plain(torch.ones(1, 2)).square().mean()).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * plain.weight.detach()
    torch.testing.assert_close(layer.weight.detach(), average, **close(torch.float32))
    assert [s.step for s in states] == [1, 2, 3, 4, 5, 6]
    assert [s.metrics for s in states] == [{"seen": float(i)} for i in range(6)]
    assert [s.lr for s in states] == [learning_rate(i, 6, 0.1, warmup=2) for i in range(6)]


def test_a_finished_training_gives_one_state_and_changes_nothing(tmp_path):
    recipe = StageRecipe(steps=3, learning_rate=0.1, ema_decay=0.5)
    weights, states = [], []

    def loss_at(number: int):
        return layer(torch.ones(1, 2)).square().mean(), {}

    for resume in (False, True, True):
        layer = nn.Linear(2, 1)
        training = Training(recipe, {"layer": layer}, tmp_path / "a.pt", resume=resume)
        states.append(list(training.run(loss_at)))
        weights.append(layer.weight.detach().clone())
        saved = (tmp_path / "a.pt").read_bytes()
    assert [[state.step for state in run] for run in states] == [[1, 2, 3], [3], [3]]
    assert [state.done_before for run in states for state in run] == [False] * 3 + [True] * 2
    assert states[1] == states[2]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    shorter = Training(recipe.model_copy(update={"steps": 2}), {"layer": layer}, tmp_path / "a.pt", resume=True)
    (state,) = shorter.run(loss_at)
    assert (state.step, state.total, state.done_before) == (3, 3, True)
    assert (tmp_path / "a.pt").read_bytes() == saved


def test_a_step_of_several_batches_is_one_of_a_batch_of_them_all():
    torch.manual_seed(0)
    inputs = torch.randn(12, 5, 2)
    whole, parts = nn.Linear(2, 1), nn.Linear(2, 1)
    parts.load_state_dict(whole.state_dict())
    recipe = StageRecipe(steps=4, learning_rate=0.1, warmup_steps=1)

    def error(layer, x):
        loss = layer(x).square().mean()
        return loss, {"error": float(loss.detach())}

    together = list(Training(recipe, {"layer": whole}, None).run(lambda n: error(whole, inputs[3 * n : 3 * n + 3])))
    recipe = recipe.model_copy(update={"accumulate": 3})
    apart = list(Training(recipe, {"layer": parts}, None).run(lambda n: error(parts, inputs[n])))
    assert [state.step for state in apart] == [1, 2, 3, 4]
    for one, three in zip(together, apart, strict=True):
        assert three.loss == pytest.approx(one.loss, rel=1e-5)
        assert three.metrics["error"] == pytest.approx(three.loss, rel=1e-5)
    torch.testing.assert_close(parts.weight, whole.weight, **close(torch.float32))


KILLED = AutoencoderTrainRecipe(
    size=32, steps=12, batch_size=4, channels=8, encoder_blocks=(0, 1, 1), decoder_blocks=(1, 1, 1),
    warmup_steps=2, checkpoint_minutes=1e-9, ema_decay=0.5,
)  # fmt: skip


def train_in_child(data, out):
    """A process that trains, from the checkpoint where there is one; its number."""
    child = os.fork()
    if not child:
        code = 1
        with suppress(BaseException):
            states = list(autoencoder.train(KILLED, data, out, resume=(out / "autoencoder.pt").exists()))
            code = 3 if states[-1].done_before else 0
        os._exit(code)
    return child


def killed(child):
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bytes(data, tmp_path):
    result = "vae/diffusion_pytorch_model.safetensors"
    started = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(train_in_child(data, tmp_path / "whole"), 0)[1]) == 0
    took = time.monotonic() - started
    whole = (tmp_path / "whole" / result).read_bytes()
    draw = random.Random(0)
    for run in range(3):
        out = tmp_path / str(run)
        kills = 0
        while kills < 4:
            child = train_in_child(data, out)
            time.sleep(draw.uniform(0.2, 1) * took)
            kills += killed(child)
            if (out / result).exists():
                break
        code = os.waitstatus_to_exitcode(os.waitpid(train_in_child(data, out), 0)[1])
        assert code in (0, 3)
        assert (out / result).read_bytes() == whole


def test_killed_while_its_weights_are_written_it_is_resumed(data, tmp_path):
    result = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    list(autoencoder.train(KILLED, data, tmp_path))
    whole, hit = result.read_bytes(), False
    while not hit:  # until the kill comes after the first byte and before the last
        shutil.rmtree(tmp_path / "vae")
        child = train_in_child(data, tmp_path)
        while not (result.exists() or any(path.name.startswith(".") for path in tmp_path.iterdir())):
            time.sleep(0.0005)
        hit = killed(child) and not result.exists()
    assert os.waitstatus_to_exitcode(os.waitpid(train_in_child(data, tmp_path), 0)[1]) == 3
    assert result.read_bytes() == whole

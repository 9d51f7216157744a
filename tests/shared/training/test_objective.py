"""Targets against diffusers, loss weights against the SNR, timesteps against their strata."""

import pytest
import torch
from diffusers import DDPMScheduler

from shared.diffusion.schedule import NoiseSchedule
from shared.rng import generator
from shared.training.objective import denoising_loss, loss_weight, stratified_timesteps, target
from tests.tiny import tiny_scheduler
from tests.tolerances import close

SCHEDULE = NoiseSchedule.from_scheduler(tiny_scheduler())


def test_targets_are_diffusers():
    x0, eps, t = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 4, 3, 8, 8), torch.tensor([3, 700])
    ddpm = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    schedule = NoiseSchedule.from_scheduler(ddpm)
    torch.testing.assert_close(
        target(schedule, "v_prediction", x0, eps, t), ddpm.get_velocity(x0, eps, t), **close(torch.float32)
    )
    assert target(schedule, "epsilon", x0, eps, t) is eps
    assert target(schedule, "sample", x0, eps, t) is x0


def test_loss_weights_are_min_snr_in_every_parameterisation():
    """The errors of eps and x0 differ by the SNR, so their weights must differ by it too; v's is the shifted one."""
    ddpm = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    schedule, t = NoiseSchedule.from_scheduler(ddpm), torch.tensor([0, 100, 500, 999])
    alpha_bar = ddpm.alphas_cumprod[t]
    snr = alpha_bar / (1 - alpha_bar)
    x0, eps, v = (loss_weight(schedule, kind, t, 5.0) for kind in ("sample", "epsilon", "v_prediction"))
    torch.testing.assert_close(x0, torch.minimum(snr, torch.tensor(5.0)))
    torch.testing.assert_close(eps * snr, x0)
    torch.testing.assert_close(v * (snr + 1), x0 + 1)


def test_pure_noise_keeps_its_weight():
    last = torch.tensor([SCHEDULE.num_timesteps - 1])
    assert float(SCHEDULE.alpha_bar(last)) == 0
    assert float(loss_weight(SCHEDULE, "v_prediction", last, 5.0)) == 1
    assert float(loss_weight(SCHEDULE, "epsilon", last, 5.0)) == 1


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_errors_that_change_from_frame_to_frame_count_once_more(weight):
    """An error of 1 in every frame costs 1; one of +1 and -1 in turns costs 1, and its changes 4 more each."""
    x0, eps, t = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 4, 3, 8, 8), torch.tensor([999, 999])  # weight 1 at 999
    right = target(SCHEDULE, "v_prediction", x0, eps, t)
    turns = torch.tensor([1.0, -1.0, 1.0])[:, None, None]
    for error, cost in ((1.0, 1.0), (turns, 1.0 + 4 * weight)):
        loss = denoising_loss(
            lambda x_t, t, error=error: right + error, SCHEDULE, x0, eps, t,
            prediction_type="v_prediction", gamma=5.0, precision="fp32", difference_weight=weight,
        )  # fmt: skip
        assert float(loss) == pytest.approx(cost, rel=1e-5)


def test_timesteps_come_one_from_each_stratum_and_cover_all():
    draws = torch.stack([stratified_timesteps(4, 1000, generator(0, i)) for i in range(500)])
    strata = draws.div(250, rounding_mode="floor")
    assert torch.equal(strata, torch.tensor([3, 2, 1, 0]).expand(500, 4))
    assert draws.float().mean() == pytest.approx(499.5, abs=10)
    assert draws.min() < 5
    assert draws.max() > 994


@pytest.mark.parametrize("bias", [1.0, 1.6])
def test_biased_timesteps_have_the_wanted_distribution(bias):
    t = stratified_timesteps(20_000, 1000, generator(0), bias=bias)
    assert t.min() >= 0
    assert t.max() <= 999
    for x in (0.25, 0.5, 0.9):
        below = float((t < 1000 * x).float().mean())
        assert below == pytest.approx(1 - (1 - x) ** (1 / bias), abs=0.002)

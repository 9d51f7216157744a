import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
)

from shared.diffusion.schedule import NoiseSchedule
from shared.errors import KinoformError, ModelError
from tests.near import near

CONFIGS = [
    {"beta_schedule": "linear"},
    {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 50},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "rescale_betas_zero_snr": True},
]


def batch(num_timesteps, shape=(4, 3, 2, 2)):
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    return x0, eps, torch.tensor([0, 1, num_timesteps // 2, num_timesteps - 1])


@pytest.mark.parametrize("config", CONFIGS)
def test_equals_the_diffusers_scheduler(config):
    scheduler = DDPMScheduler(**config)
    schedule = NoiseSchedule.from_scheduler(scheduler)
    assert schedule.num_timesteps == scheduler.config.num_train_timesteps
    assert torch.equal(schedule.alpha_bar(torch.arange(schedule.num_timesteps)), scheduler.alphas_cumprod)
    x0, eps, t = batch(schedule.num_timesteps)
    near(schedule.add_noise(x0, eps, t), scheduler.add_noise(x0, eps, t))
    near(schedule.velocity(x0, eps, t), scheduler.get_velocity(x0, eps, t))


def test_other_schedulers_of_a_model_give_the_same_numbers():
    config = {**CONFIGS[-1], "prediction_type": "v_prediction"}
    wanted = NoiseSchedule.from_scheduler(DDIMScheduler(**config))
    t = torch.arange(1000)
    for other in (EulerDiscreteScheduler(**config), LCMScheduler(**config)):
        assert torch.equal(NoiseSchedule.from_scheduler(other).alpha_bar(t), wanted.alpha_bar(t))
    defaults = LCMScheduler()  # its defaults are not DDIM's
    assert torch.equal(NoiseSchedule.from_scheduler(defaults).alpha_bar(t), defaults.alphas_cumprod)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 2, 5, 2, 2)])
def test_conversions_invert_the_definitions(config, shape):
    schedule = NoiseSchedule.from_scheduler(DDIMScheduler(**config))
    x0, eps, t = (
        value.double() if value.is_floating_point() else value for value in batch(schedule.num_timesteps, shape)
    )
    x_t, v = schedule.add_noise(x0, eps, t), schedule.velocity(x0, eps, t)
    # The table is single precision, so alpha^2 + sigma^2 = 1 holds to that.
    torch.testing.assert_close(schedule.x0_from_v(x_t, v, t), x0, rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.eps_from_v(x_t, v, t), eps, rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.eps_from_x0(x_t, x0, t), eps, rtol=0, atol=1e-6)
    signal = schedule.alpha(t) > 0
    torch.testing.assert_close(schedule.x0_from_eps(x_t[signal], eps[signal], t[signal]), x0[signal], rtol=0, atol=1e-6)


def test_log_snr_falls_to_minus_infinity():
    schedule = NoiseSchedule.from_scheduler(DDIMScheduler(rescale_betas_zero_snr=True))
    log_snr = schedule.log_snr(torch.arange(1000))
    assert (log_snr[1:] < log_snr[:-1]).all()
    assert log_snr[-1] == -torch.inf
    alpha_bar = schedule.alpha_bar(torch.tensor([500]))
    near(schedule.log_snr(torch.tensor([500])), (alpha_bar / (1 - alpha_bar)).log())


def test_zero_terminal_snr_needs_no_division():
    schedule = NoiseSchedule.from_scheduler(DDIMScheduler(rescale_betas_zero_snr=True))
    x0, eps, _ = batch(1000)
    t = torch.full((4,), 999)
    assert schedule.reaches_pure_noise
    x_t, v = schedule.add_noise(x0, eps, t), schedule.velocity(x0, eps, t)
    assert torch.equal(x_t, eps)
    assert torch.equal(schedule.x0_from_v(x_t, v, t), x0)
    assert torch.equal(schedule.eps_from_v(x_t, v, t), eps)
    with pytest.raises(KinoformError, match="zero terminal SNR"):
        schedule.x0_from_eps(x_t, eps, t)


def test_rectified_flow_is_a_straight_line():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    schedule = NoiseSchedule.from_scheduler(scheduler)
    scheduler.set_timesteps(4)
    x0, eps, _ = batch(1000)
    t = scheduler.timesteps  # fractional, the shift included
    near(schedule.sigma(t), scheduler.sigmas[:-1])
    x_t, v = schedule.add_noise(x0, eps, t), schedule.velocity(x0, eps, t)
    near(x_t, scheduler.scale_noise(x0, t, eps))
    assert torch.equal(v, eps - x0)
    near(schedule.x0_from_v(x_t, v, t), x0)
    near(schedule.eps_from_v(x_t, v, t), eps)
    near(schedule.eps_from_x0(x_t, x0, t)[:3], eps[:3])  # the last divides by sigma = 0.009
    # Along the line from x0 to eps, d x_t / d s = v.
    s = torch.full((4,), 300.0)
    slope = (schedule.add_noise(x0, eps, s + 100) - schedule.add_noise(x0, eps, s)) / 0.1
    torch.testing.assert_close(slope, v, rtol=1e-4, atol=1e-5)  # a difference quotient: ten times the rounding


def test_fractional_timesteps_lie_between_their_neighbours():
    schedule = NoiseSchedule.from_scheduler(DDIMScheduler())
    low, high = schedule.alpha_bar(torch.tensor([10, 11]))
    between = schedule.alpha_bar(torch.tensor([10.0, 10.25, 11.0, 999.0]))
    near(between[:3], torch.stack([low, 0.75 * low + 0.25 * high, high]))


def test_timesteps_outside_the_schedule_are_refused():
    schedule = NoiseSchedule.from_scheduler(DDIMScheduler())
    for t in (-1, 1000):
        with pytest.raises((IndexError, RuntimeError)):
            schedule.alpha(torch.tensor([t]))


def test_unknown_schedules_are_refused():
    scheduler = DDIMScheduler()
    scheduler.register_to_config(beta_schedule="sigmoid")
    with pytest.raises(ModelError, match="sigmoid"):
        NoiseSchedule.from_scheduler(scheduler)
    with pytest.raises(ModelError):
        NoiseSchedule(None)

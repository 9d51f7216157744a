"""Noise found by inversion, against the closed form of the Gaussian and against DDIM itself.

For data ~ N(mu, s^2 I) the probability flow keeps how many deviations x is from its mean (see test_sds.py):
z_t = alpha_t mu + (x - mu) sqrt(alpha_t^2 s^2 + sigma_t^2) / s.
"""

import pytest
import torch
from diffusers import DDIMScheduler
from torch.testing import assert_close

from dreamfusion.guidance.inversion import inverted_noise
from shared.diffusion.conditioning import Conditioning
from tests.dreamfusion.guidance.test_sds import SPREAD, T, draw, factors, gaussian_denoiser
from tests.tiny import tiny_scheduler


@pytest.mark.parametrize("parameterisation", ["epsilon", "v_prediction", "flow"])
def test_many_steps_are_the_flow_of_gaussian_data(parameterisation):
    x, mean = draw(4, 3, 6, 6), draw(1, 3, 6, 6, seed=2)
    noise = inverted_noise(gaussian_denoiser(mean, parameterisation), x, T, steps=1000)
    alpha, sigma = factors(T, parameterisation)
    z_t = alpha * mean + (x - mean) * (alpha**2 * SPREAD**2 + sigma**2).sqrt() / SPREAD
    assert_close(noise, (z_t - alpha * x) / sigma, rtol=0.03, atol=0.03)


def test_ddim_goes_from_it_to_the_render():
    """To what the prompt of the inversion says, not another one."""
    x, mean = draw(1, 3, 6, 6), draw(1, 3, 6, 6, seed=2)
    denoiser, t = gaussian_denoiser(mean), torch.tensor([900])
    said = Conditioning(torch.full((1, 2, 8), 0.5, dtype=torch.float64))
    alpha, sigma = factors(t)
    scheduler = DDIMScheduler.from_config(tiny_scheduler().config, prediction_type="epsilon", set_alpha_to_one=True)
    scheduler.set_timesteps(scheduler.config.num_train_timesteps)
    ends = []
    for told in (said, Conditioning()):
        z = alpha * x + sigma * inverted_noise(denoiser, x, t, said, steps=900)
        for level in range(900, 0, -1):
            z = scheduler.step(denoiser(z, torch.tensor([level]), told).eps, level, z).prev_sample
        ends.append(float((z - x).abs().mean()))
    assert ends[0] < 0.02 < 0.2 < ends[1]


def test_levels_of_samples_are_their_own():
    x, mean = draw(4, 3, 6, 6), draw(1, 3, 6, 6, seed=2)
    together = inverted_noise(gaussian_denoiser(mean), x, T, steps=3)
    alone = [inverted_noise(gaussian_denoiser(mean), x[i : i + 1], T[i : i + 1], steps=3) for i in range(4)]
    assert_close(together, torch.cat(alone))

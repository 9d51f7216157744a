"""Guidance by a score, against a closed form: Gaussian data and a linear score, with which it stays Gaussian.

Data is N(m, SPREAD^2); wanted from p(x) exp(k w.x), it is N(m + k SPREAD^2 w, SPREAD^2).
"""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.guidance import ClassifierFree, Interval, guided_by
from shared.diffusion.sampling import sample
from shared.diffusion.schedule import NoiseSchedule
from shared.diffusion.scored import Scored
from tests.near import near
from tests.shared.diffusion.test_guidance import SCHEDULE, SPREAD, Gaussian, says
from tests.tiny import tiny_scheduler

FLOW = NoiseSchedule.from_scheduler(FlowMatchEulerDiscreteScheduler())
WEIGHTS = torch.linspace(-1, 2, 12).view(1, 3, 2, 2)
K = 1.7


def linear(x0):
    return (x0 * WEIGHTS).sum((1, 2, 3))


class Exact:
    """The output of any parameterisation of the exact denoiser of N(mean, SPREAD^2)."""

    def __init__(self, mean, schedule, kind):
        self.mean, self.schedule, self.kind = mean, schedule, kind

    def __call__(self, x_t, t, text):
        alpha, sigma = (f(t).view(-1, 1, 1, 1).to(x_t) for f in (self.schedule.alpha, self.schedule.sigma))
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        x0 = self.mean + gain * (x_t - alpha * self.mean)
        eps = (x_t - alpha * x0) / sigma
        v = eps - x0 if self.schedule.is_flow else alpha * eps - sigma * x0
        return {"sample": x0, "epsilon": eps, "v_prediction": v, "flow": v}[self.kind]


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [("epsilon", SCHEDULE), ("v_prediction", SCHEDULE), ("sample", SCHEDULE), ("flow", FLOW), ("epsilon", FLOW)],
)
def test_a_linear_score_shifts_the_mean(kind, schedule):
    draw = torch.Generator().manual_seed(0)
    x_t, t = torch.randn(3, 3, 2, 2, generator=draw, dtype=torch.float64), torch.tensor([50, 500, 900])
    scored = Scored(Denoiser(Exact(0.3, schedule, kind), schedule, kind), linear, K)
    shifted = Denoiser(Exact(0.3 + K * SPREAD**2 * WEIGHTS, schedule, kind), schedule, kind)
    got, wanted = scored(x_t, t), shifted(x_t, t)
    near(got.x0, wanted.x0, torch.float32)  # in which the schedule is
    near(got.eps, wanted.eps, torch.float32)
    plain = scored.inner.outputs(x_t, t)
    near(scored.outputs(x_t, t).conditional, plain.conditional)
    assert not torch.allclose(scored.outputs(x_t, t).output, plain.output)
    assert not got.x0.requires_grad


def test_samples_have_the_shifted_mean():
    scheduler = tiny_scheduler()  # which begins at pure noise, where x_t says nothing of the data
    schedule = NoiseSchedule.from_scheduler(scheduler)
    denoiser = Scored(Denoiser(Exact(0.3, schedule, "v_prediction"), schedule, "v_prediction"), linear, K)
    *_, last = sample(denoiser, scheduler, shape=(3, 2, 2), seeds=list(range(200)), steps=100)
    wanted = 0.3 + K * SPREAD**2 * WEIGHTS[0]
    assert (last.latents.mean(0) - wanted).abs().max() < 4 * SPREAD / 200**0.5  # four standard errors
    assert (last.latents.std(0) / SPREAD - 1).abs().max() < 0.25


def test_the_gradient_is_that_of_a_difference():
    """Of a denoiser that bends, and a score that does: through both."""
    bent = Denoiser(lambda x_t, t, text: torch.tanh(x_t) ** 2 + x_t.roll(1, -1), SCHEDULE, "sample")
    x_t, t = (
        torch.randn(1, 1, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
        torch.tensor([400]),
    )
    score = lambda x0: torch.sin(x0).sum((1, 2, 3))  # noqa: E731
    change = Scored(bent, score, 2.0).outputs(x_t, t).output - bent.outputs(x_t, t).output
    for i in range(4):
        step = torch.zeros_like(x_t)
        step[..., i] = 1e-6
        slope = (score(bent(x_t + step, t).x0) - score(bent(x_t - step, t).x0)) / 2e-6
        factor = SCHEDULE.sigma(t) ** 2 / SCHEDULE.alpha(t)
        assert float(change[..., i]) == pytest.approx(float(2.0 * slope * factor), rel=1e-6)


def test_it_composes():
    """Round classifier-free guidance it is the shift of what that gives; an interval leaves it out."""
    inner = ClassifierFree(Denoiser(Gaussian(), SCHEDULE, "sample"), says(-0.2), 3.0)
    x_t, t, told = torch.zeros(2, 3, 2, 2), torch.tensor([300, 800]), says(0.5, 2)
    alpha, sigma = (f(t).view(-1, 1, 1, 1) for f in (SCHEDULE.alpha, SCHEDULE.sigma))
    shift = K * WEIGHTS * SPREAD**2 * sigma**2 / (alpha**2 * SPREAD**2 + sigma**2)
    near(Scored(inner, linear, K)(x_t, t, told).x0, inner(x_t, t, told).x0 + shift)
    noise = sigma.flatten() / alpha.flatten()
    between = Interval(Scored(inner, linear, K), 0.0, float(noise.mean()))(x_t, t, told).x0
    near(between[:1], inner(x_t, t, told).x0[:1] + shift[:1])
    near(between[1:], inner.inner(x_t, t, told).x0[1:])


def test_at_pure_noise_there_is_nothing_to_be_led_by():
    told = Conditioning(torch.zeros(1, 1, 1))
    plain = Denoiser(Gaussian(), SCHEDULE, "sample")
    assert float(SCHEDULE.alpha(torch.tensor([999]))) == 0
    x_t, t = torch.randn(1, 3, 2, 2), torch.tensor([999])
    assert torch.equal(Scored(plain, linear, K)(x_t, t, told).x0, plain(x_t, t, told).x0)


def test_recipes_wrap_it_round_their_guidance():
    class Recipe:
        guidance, guidance_scale, guidance_rescale = "classifier-free", 3.0, 0.0

    denoiser = Denoiser(Gaussian(), SCHEDULE, "sample")
    full = guided_by(Recipe(), denoiser, says(0), further=lambda inner: Scored(inner, linear, K))
    assert isinstance(full, Scored)
    assert full.inner.inner.inner is denoiser

"""Guidance against closed forms (data that is Gaussian given its condition), diffusers, and slow loops.

Data given c is N(c, SPREAD^2), one number for all elements, so that every denoiser, guided or not, is affine in x_t.
"""

import copy

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from shared.diffusion.conditioning import NOTHING, Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.guidance import AutoGuidance, ClassifierFree, Interval, PerpNeg, Rescaled, between, guided
from shared.diffusion.sampling import sample
from shared.diffusion.schedule import NoiseSchedule
from shared.errors import InputError
from shared.rng import normal
from tests.near import near
from tests.tiny import tiny_scheduler

SCHEDULE = NoiseSchedule.from_scheduler(DDIMScheduler(rescale_betas_zero_snr=True))
SPREAD = 0.4


class Gaussian:
    """E[x0 | x_t] where x0 ~ N(mean of the condition, spread^2); counts what it is asked."""

    def __init__(self, schedule=SCHEDULE, spread=SPREAD):
        self.schedule, self.spread, self.batches = schedule, spread, []

    def __call__(self, x_t, t, text):
        self.batches.append(len(x_t))
        mean = text.mean((1, 2)).view(-1, 1, 1, 1)
        alpha, sigma = (f(t).view(-1, 1, 1, 1) for f in (self.schedule.alpha, self.schedule.sigma))
        return mean + alpha * self.spread**2 / (alpha**2 * self.spread**2 + sigma**2) * (x_t - alpha * mean)


class Linear:
    """output = a(t) x_t + a vector of the condition's; counts what it is asked."""

    def __init__(self):
        self.batches = []

    def __call__(self, x_t, t, text):
        self.batches.append(len(x_t))
        return (t / 1000).view(-1, 1, 1, 1) * x_t + text.mean(1).view(len(text), -1, 1, 1)


def says(value, count=1):
    return Conditioning(torch.full((count, 1, 1), float(value)))


def inputs():
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    cond, uncond = Conditioning(draw(3, 2, 4)), Conditioning(draw(3, 2, 4))
    return draw(3, 4, 5, 5), torch.tensor([20, 500, 900]), cond, uncond


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_guidance_is_linear_in_every_form(prediction_type):
    x_t, t, cond, uncond = inputs()
    network = Linear()
    denoiser = Denoiser(network, SCHEDULE, prediction_type)
    got = ClassifierFree(denoiser, uncond, 7.5)(x_t, t, cond)
    assert network.batches == [6]  # one batch
    c, u = denoiser(x_t, t, cond), denoiser(x_t, t, uncond)
    for form in ("eps", "x0", "v"):
        with_c, with_u = getattr(c, form), getattr(u, form)
        torch.testing.assert_close(getattr(got, form), with_u + 7.5 * (with_c - with_u), rtol=1e-4, atol=1e-4)


def test_the_two_conventions_count_from_different_zeros():
    x_t, t, cond, uncond = inputs()
    denoiser = Denoiser(Linear(), SCHEDULE, "v_prediction")
    a = ClassifierFree(denoiser, uncond, 8.5)(x_t, t, cond)
    b = ClassifierFree(denoiser, uncond, 7.5, convention="dreamfusion")(x_t, t, cond)
    near(a.eps, b.eps)
    c, u = denoiser(x_t, t, cond).v, denoiser(x_t, t, uncond).v
    torch.testing.assert_close(b.v, (1 + 7.5) * c - 7.5 * u, rtol=1e-5, atol=1e-5)


def test_no_guidance_evaluates_the_condition_alone():
    x_t, t, cond, uncond = inputs()
    network = Linear()
    denoiser = Denoiser(network, SCHEDULE, "v_prediction")
    wanted = denoiser(x_t, t, cond).v
    for scale, convention in ((1.0, "cfg"), (0.0, "dreamfusion")):
        for negative in (uncond, NOTHING):
            got = guided(denoiser, negative, scale, rescale=0.7, convention=convention)(x_t, t, cond)
            assert torch.equal(got.v, wanted)
    assert network.batches == [3] * 5


def test_rescale_equals_diffusers_and_restores_the_deviation():
    x_t, t, cond, uncond = inputs()
    denoiser = Denoiser(Linear(), SCHEDULE, "v_prediction")
    c, u = denoiser(x_t, t, cond).v, denoiser(x_t, t, uncond).v
    plain = u + 7.5 * (c - u)
    near(guided(denoiser, uncond, 7.5, rescale=0.7)(x_t, t, cond).v, rescale_noise_cfg(plain, c, 0.7))
    full = guided(denoiser, uncond, 7.5, rescale=1.0)(x_t, t, cond)
    near(full.v.std((1, 2, 3)), c.std((1, 2, 3)))
    near(full.x0, SCHEDULE.x0_from_v(x_t, full.v, t))


def test_one_negative_serves_all_samples():
    x_t, t, cond, uncond = inputs()
    denoiser = Denoiser(Linear(), SCHEDULE, "v_prediction")
    first = uncond[0:1]
    of_one, of_each = (ClassifierFree(denoiser, each, 3.0)(x_t, t, cond).v for each in (first, first.expand(3)))
    assert torch.equal(of_one, of_each)


def sampled(wrap, spread=SPREAD, steps=100):
    """Latents by DDIM from an exact denoiser under guidance; z ends at mean + spread z, but for the steps' size."""
    scheduler = tiny_scheduler()
    schedule = NoiseSchedule.from_scheduler(scheduler)
    denoiser = wrap(Denoiser(Gaussian(schedule, spread), schedule, "sample"))
    *_, last = sample(denoiser, scheduler, shape=(4, 16, 16), seeds=[0, 1], conditioning=says(0.5), steps=steps)
    return last.latents


def test_classifier_free_guidance_samples_the_gaussian_that_is_further_on():
    """Of two Gaussians of one spread the guided denoiser is exactly that of N(u + s (c - u), spread^2)."""
    got = sampled(lambda denoiser: ClassifierFree(denoiser, says(-0.5), 3.0))
    z = torch.stack([normal((4, 16, 16), seed) for seed in (0, 1)])
    torch.testing.assert_close(got, -0.5 + 3.0 * 1.0 + SPREAD * z, rtol=0, atol=0.1)


def test_perpendicular_negatives_take_nothing_from_the_condition():
    """A negative along the condition changes nothing; of a slanted one only the part across it counts."""
    x_t, t, _, _ = inputs()
    denoiser = Denoiser(Linear(), SCHEDULE, "v_prediction")
    nothing = Conditioning(torch.zeros(1, 1, 4))
    cond = Conditioning(torch.tensor([2.0, 0, 0, 0]).view(1, 1, 4))
    plain = ClassifierFree(denoiser, nothing, 5.0)(x_t, t, cond).v

    def with_negative(*direction):
        negative = Conditioning(torch.tensor(direction).view(1, 1, 4))
        return PerpNeg(denoiser, nothing, [(negative, 0.7)], 5.0)(x_t, t, cond).v

    near(with_negative(0.9, 0.0, 0.0, 0.0), plain)
    across = torch.tensor([0.0, 3.0, 0.0, 0.0]).view(1, 4, 1, 1)
    near(with_negative(0.9, 3.0, 0.0, 0.0), plain - 5.0 * 0.7 * across)


def test_autoguidance_is_away_from_the_weaker_model():
    """Both exact, of spreads r < q: affine denoisers, so the guided one is the affine one further on."""
    x_t, t, cond, _ = inputs()
    strong, weak = (Denoiser(Gaussian(spread=spread), SCHEDULE, "sample") for spread in (0.4, 0.8))
    got = AutoGuidance(strong, weak, 2.5)(x_t, t, cond)
    near(got.x0, weak(x_t, t, cond).x0 + 2.5 * (strong(x_t, t, cond).x0 - weak(x_t, t, cond).x0))
    assert torch.equal(AutoGuidance(strong, weak, 1.0)(x_t, t, cond).x0, strong(x_t, t, cond).x0)
    with pytest.raises(InputError, match="weaker model predicts: expected sample, got epsilon"):
        AutoGuidance(strong, Denoiser(Gaussian(), SCHEDULE, "epsilon"), 2.0)


def test_autoguidance_narrows_what_is_sampled():
    weak = lambda denoiser: Denoiser(Gaussian(denoiser.schedule, 0.8), denoiser.schedule, "sample")  # noqa: E731
    guided_spread = sampled(lambda denoiser: AutoGuidance(denoiser, weak(denoiser), 2.0)).std()
    assert guided_spread < 0.75 * sampled(lambda denoiser: denoiser).std()


def test_an_interval_guides_inside_it_alone():
    x_t, t, cond, uncond = inputs()
    network = Linear()
    denoiser = Denoiser(network, SCHEDULE, "v_prediction")
    noise = (SCHEDULE.sigma(t) / SCHEDULE.alpha(t)).tolist()
    assert noise == sorted(noise)
    free = ClassifierFree(denoiser, uncond, 5.0)
    plain, full = denoiser(x_t, t, cond).v, free(x_t, t, cond).v
    middle = Interval(free, noise[0], noise[1])(x_t, t, cond).v  # (low, high]: the second sample
    assert torch.equal(middle[1], full[1])
    assert torch.equal(middle[[0, 2]], plain[[0, 2]])
    network.batches.clear()
    assert torch.equal(Interval(free, 1e6, 1e7)(x_t, t, cond).v, plain)
    assert network.batches == [3]  # half the work
    assert torch.equal(Interval(free, 0.0, 1e7)(x_t, t, cond).v, full)
    no_signal = torch.full((3,), 999)  # where the noise is infinite beside it
    assert torch.equal(Interval(free, 0.0, float("inf"))(x_t, no_signal, cond).v, free(x_t, no_signal, cond).v)


def test_an_interval_may_be_said_in_shares_of_the_way_down():
    x_t, _, cond, uncond = inputs()
    denoiser = Denoiser(Linear(), SCHEDULE, "v_prediction")
    free = ClassifierFree(denoiser, uncond, 5.0)
    assert between(free, 0.0, 1.0) is free
    for start, stop, guided_at in ((0.25, 0.75, [500]), (0.0, 0.5, [999, 500]), (0.5, 1.0, [499, 0])):
        for t in (999, 500, 499, 0):
            at = torch.full((3,), t)
            wanted = (free if t in guided_at or (start, t) == (0.25, 499) else denoiser)(x_t, at, cond).v
            assert torch.equal(between(free, start, stop)(x_t, at, cond).v, wanted), (start, stop, t)


def test_wrappers_compose_as_a_slow_loop_says():
    x_t, t, cond, uncond = inputs()
    strong, weak = (Denoiser(Gaussian(spread=spread), SCHEDULE, "sample") for spread in (0.4, 0.8))
    composed = Interval(Rescaled(ClassifierFree(AutoGuidance(strong, weak, 1.5), uncond, 4.0), 0.3), 0.5, 100.0)
    got = composed(x_t, t, cond).x0
    for i in range(3):
        one, when, c, u = x_t[i : i + 1], t[i : i + 1], cond[i : i + 1], uncond[i : i + 1]
        wanted = strong(one, when, c).x0
        if 0.5 < float(SCHEDULE.sigma(when) / SCHEDULE.alpha(when)) <= 100.0:
            auto = [weak(one, when, y).x0 + 1.5 * (strong(one, when, y).x0 - weak(one, when, y).x0) for y in (u, c)]
            wanted = rescale_noise_cfg(auto[0] + 4.0 * (auto[1] - auto[0]), wanted, 0.3)
        torch.testing.assert_close(got[i : i + 1], wanted, rtol=1e-4, atol=1e-4)


def test_wrong_arguments_are_refused():
    x_t, t, cond, uncond = inputs()
    denoiser = Denoiser(Linear(), SCHEDULE, "v_prediction")
    with pytest.raises(InputError, match="cfg or dreamfusion"):
        ClassifierFree(denoiser, uncond, 2.0, convention="imagen")
    with pytest.raises(InputError, match="the same parts"):
        ClassifierFree(denoiser, NOTHING, 2.0)(x_t, t, cond)
    with pytest.raises(InputError, match="neither"):
        ClassifierFree(denoiser, NOTHING, 2.0)(x_t, t, NOTHING)
    with pytest.raises(InputError, match="one for each of 3 samples, or one for all, got 2"):
        ClassifierFree(denoiser, copy.copy(uncond)[0:2], 2.0)(x_t, t, cond)

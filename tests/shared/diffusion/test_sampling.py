import copy
from functools import partial

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    SASolverScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)

from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.guidance import guided
from shared.diffusion.sampling import sample
from shared.diffusion.schedule import NoiseSchedule
from shared.errors import InputError
from shared.rng import generator
from tests.near import near
from tests.tiny import tiny_scheduler, tiny_unet

MEAN, STD = 0.7, 0.4
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def gaussian(schedule):
    """The exact denoiser of x0 ~ N(MEAN, STD^2), as a network that predicts x0."""

    def network(x_t, t, conditioning):
        shape = (-1,) + (1,) * (x_t.ndim - 1)
        alpha, sigma = schedule.alpha(t).view(shape), schedule.sigma(t).view(shape)
        return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x_t - alpha * MEAN)

    return Denoiser(network, schedule, "sample")


def last(states):
    *_, final = states
    return final


def run(scheduler, *, steps, seeds=(0, 1), shape=(4, 8, 8), **options):
    denoiser = gaussian(NoiseSchedule.from_scheduler(scheduler))
    return last(sample(denoiser, scheduler, shape=shape, seeds=list(seeds), steps=steps, **options))


def noise(seeds, shape=(4, 8, 8)):
    return torch.stack([torch.randn(shape, generator=generator(seed)) for seed in seeds])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 3, 8, 8)])
def test_ddim_with_an_exact_denoiser_maps_noise_onto_the_data(prediction_type, shape):
    zero_snr = prediction_type != "epsilon"
    scheduler = DDIMScheduler(
        **BETAS,
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type=prediction_type,
        rescale_betas_zero_snr=zero_snr,
    )
    got = run(scheduler, steps=100, shape=shape).latents
    # The flow of a Gaussian is affine: from N(0, 1) it ends at MEAN + STD z, but for the size of the steps.
    torch.testing.assert_close(got, MEAN + STD * noise((0, 1), shape), rtol=0, atol=0.08)
    assert abs(got.mean() - MEAN) < 0.03
    assert abs(got.std() - STD) < 0.03


def test_ddim_takes_the_steps_of_its_equation():
    scheduler, steps = tiny_scheduler(), 10
    schedule = NoiseSchedule.from_scheduler(scheduler)
    # x_t = offset + slope z. A step (Song et al. 2021, equation 12): x_s = alpha_s E[x0 | x_t] + sigma_s E[eps | x_t].
    offset, slope = 0.0, 1.0
    for t in range(999, -1, -1000 // steps):
        alpha, sigma = (float(f(torch.tensor([t]))) for f in (schedule.alpha, schedule.sigma))
        s = t - 1000 // steps
        alpha_s, sigma_s = 1.0, 0.0
        if s >= 0:
            alpha_s, sigma_s = (float(f(torch.tensor([s]))) for f in (schedule.alpha, schedule.sigma))
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        x0 = MEAN + gain * (offset - alpha * MEAN), gain * slope
        eps = (offset - alpha * x0[0]) / sigma, (slope - alpha * x0[1]) / sigma
        offset, slope = (alpha_s * of_x0 + sigma_s * of_eps for of_x0, of_eps in zip(x0, eps, strict=True))
    got = run(tiny_scheduler(), steps=steps).latents
    torch.testing.assert_close(got, offset + slope * noise((0, 1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "scheduler",
    [
        EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing"),
        HeunDiscreteScheduler(**BETAS, timestep_spacing="trailing"),
        DPMSolverMultistepScheduler(**BETAS, timestep_spacing="trailing"),
        UniPCMultistepScheduler(**BETAS, timestep_spacing="trailing"),
        PNDMScheduler(**BETAS, skip_prk_steps=True, timestep_spacing="trailing"),
        DDPMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing"),
        EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="trailing"),
        FlowMatchEulerDiscreteScheduler(shift=2.0),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_every_kind_of_scheduler_ends_with_the_datas_mean_and_deviation(scheduler):
    got = run(scheduler, steps=100, seeds=range(4), shape=(4, 16, 16)).latents
    assert abs(got.mean() - MEAN) < 0.03
    assert abs(got.std() - STD) < 0.1 * STD


@pytest.mark.parametrize(
    "scheduler_class", [DDIMScheduler, DDPMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler]
)
def test_a_sample_does_not_depend_on_its_batch(scheduler_class):
    scheduler = scheduler_class.from_config(tiny_scheduler().config)
    unet = tiny_unet()
    schedule = NoiseSchedule.from_scheduler(scheduler)
    draw = torch.Generator().manual_seed(0)
    cond, uncond = torch.randn(4, 7, 32, generator=draw), torch.randn(4, 7, 32, generator=draw)
    seeds = [5, 900, 5, 2**62]

    def sampled(part):
        denoiser = guided(Denoiser(unet, schedule, "v_prediction"), Conditioning(uncond[part]), 4.0, rescale=0.5)
        told = Conditioning(cond[part])
        return last(sample(denoiser, scheduler, seeds=seeds[part], conditioning=told, shape=(4, 8, 8), steps=3)).latents

    together = sampled(slice(None))
    for i in (1, 2):
        alone = sampled(slice(i, i + 1))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=2e-4)
    assert (together[0] - together[1]).abs().max() > 0.1
    assert torch.equal(sampled(slice(None)), together)


def pairs_correlation(latents):
    """Of every two frames of "b c t h w", about the mean of all clips."""
    frames = latents.transpose(1, 2).flatten(2)  # b t (c h w)
    frames = frames - frames.mean()
    products = (frames @ frames.transpose(1, 2)).mean(0)
    t = len(products)
    return float((products.sum() - products.trace()) / (t * (t - 1)) / (products.trace() / t))


STOCHASTIC = [
    EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="trailing"),
    DDPMScheduler(**BETAS, clip_sample=False, timestep_spacing="trailing"),
    DPMSolverMultistepScheduler(**BETAS, algorithm_type="sde-dpmsolver++", timestep_spacing="trailing"),
    DPMSolverSinglestepScheduler(**BETAS, algorithm_type="sde-dpmsolver++"),
    LCMScheduler(**BETAS, timestep_spacing="trailing"),
    KDPM2AncestralDiscreteScheduler(**BETAS, timestep_spacing="trailing"),
    SASolverScheduler(**BETAS, timestep_spacing="trailing"),
    TCDScheduler(**BETAS),
]
STEADY = [tiny_scheduler(), EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing")]


@pytest.mark.parametrize("scheduler", STOCHASTIC + STEADY, ids=lambda scheduler: type(scheduler).__name__)
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_noise_of_every_step_has_its_share(scheduler, share):
    """The exact denoiser of a Gaussian works on each number by itself: frames agree as much as their noise does."""
    states = sample(
        gaussian(NoiseSchedule.from_scheduler(scheduler)),
        copy.deepcopy(scheduler),
        shape=(4, 5, 32, 32),
        seeds=[0, 1],
        steps=10,
        draw_noise=partial(mixed, share=share),
    )
    for state in states:
        if state.latents.std() > 0.05:  # schedulers for few steps forget the noise as they end
            assert abs(pairs_correlation(state.latents) - share) < 0.04, state.step


def mixed(shape, generator, *, share):
    own, common = (torch.randn(size, generator=generator) for size in (shape, (shape[0], 1, *shape[2:])))
    return share**0.5 * common + (1 - share) ** 0.5 * own


@pytest.mark.parametrize("scheduler", STOCHASTIC, ids=lambda scheduler: type(scheduler).__name__)
def test_plain_noise_of_a_step_is_what_the_scheduler_itself_draws(scheduler):
    """By hand, with the generator handed to the scheduler; the same bytes."""
    schedule, ours, own = NoiseSchedule.from_scheduler(scheduler), copy.deepcopy(scheduler), copy.deepcopy(scheduler)
    options = {"shape": (4, 8, 8), "seeds": [3], "steps": 6}
    got = last(sample(gaussian(schedule), ours, **options)).latents
    draw = generator(3)
    own.set_timesteps(6)
    x_t = torch.randn((1, 4, 8, 8), generator=draw) * own.init_noise_sigma
    for t in own.timesteps:
        prediction = gaussian(schedule)(own.scale_model_input(x_t, t), t.expand(1))
        x_t = own.step(prediction.eps, t, x_t, generator=draw).prev_sample
    assert torch.equal(got, x_t)


def test_latents_that_are_sent_in_take_the_place_of_the_last():
    states = sample(
        gaussian(NoiseSchedule.from_scheduler(tiny_scheduler())),
        tiny_scheduler(), shape=(4, 8, 8), seeds=[0], steps=3,
    )  # fmt: skip
    first = next(states)
    same = states.send(first.latents)
    again = sample(
        gaussian(NoiseSchedule.from_scheduler(tiny_scheduler())),
        tiny_scheduler(), shape=(4, 8, 8), seeds=[0], steps=3,
    )  # fmt: skip
    next(again)
    assert not torch.equal(again.send(first.latents + 1).latents, same.latents)


def test_states_count_up_and_can_be_left_early():
    schedule = NoiseSchedule.from_scheduler(tiny_scheduler())
    states = sample(gaussian(schedule), tiny_scheduler(), shape=(4, 8, 8), seeds=[0], steps=7)
    seen = []
    for state in states:
        seen.append((state.step, state.total))
        assert torch.is_grad_enabled()  # the sampler's no_grad is its own
        if state.step == 3:
            break
    assert seen == [(1, 7), (2, 7), (3, 7)]


def test_the_first_step_starts_from_the_samples_own_noise():
    scheduler, seen = tiny_scheduler(), []
    schedule = NoiseSchedule.from_scheduler(scheduler)

    def network(x_t, t, conditioning):
        seen.append((x_t, t))
        return torch.zeros_like(x_t)

    denoiser = Denoiser(network, schedule, "v_prediction")
    last(sample(denoiser, scheduler, shape=(4, 8, 8), seeds=[3, 4], steps=4))
    near(seen[0][0], noise((3, 4)))
    assert [int(t[0]) for _, t in seen] == [999, 749, 499, 249]  # trailing: from pure noise (Lin et al. 2023)


def test_wrong_numbers_are_refused():
    schedule = NoiseSchedule.from_scheduler(tiny_scheduler())
    for options in (
        {"seeds": [1, 2], "conditioning": Conditioning(torch.zeros(3, 7, 32))},
        {"seeds": []},
        {"seeds": [1], "steps": 1001},
        {"seeds": [-1]},
    ):
        arguments = {"shape": (4, 8, 8), **options}
        with pytest.raises(InputError):
            last(sample(gaussian(schedule), tiny_scheduler(), **arguments))


def test_states_carry_the_clean_latents_that_the_network_sees():
    scheduler = tiny_scheduler()
    denoiser = gaussian(NoiseSchedule.from_scheduler(scheduler))
    states = list(sample(denoiser, scheduler, shape=(4, 8, 8), seeds=[0, 1], steps=4))
    x_t = noise((0, 1))
    for state, t in zip(states, scheduler.timesteps, strict=True):
        near(state.x0, denoiser(x_t, t.expand(2)).x0)
        x_t = state.latents
    near(states[-1].x0, states[-1].latents)  # DDIM's last step goes all the way

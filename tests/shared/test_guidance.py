import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from shared.denoiser import Denoiser
from shared.errors import InputError
from shared.guidance import guided
from shared.schedule import NoiseSchedule
from tests.near import near

SCHEDULE = NoiseSchedule.from_scheduler(DDIMScheduler(rescale_betas_zero_snr=True))


class Network:
    """output = a(t) x_t + conditioning's mean + shift, so every mixture has a closed form; counts its calls."""

    def __init__(self):
        self.batches = []

    def __call__(self, x_t, t, conditioning, shift=0.0):
        self.batches.append(len(x_t))
        level = conditioning.mean((1, 2)) + shift
        return (t / 1000).view(-1, 1, 1, 1) * x_t + level.view(-1, 1, 1, 1)


def inputs():
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    return draw(3, 4, 5, 5), torch.tensor([20, 500, 900]), draw(3, 2, 6), draw(3, 2, 6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_guidance_is_linear_in_every_form(prediction_type):
    x_t, t, cond, uncond = inputs()
    network = Network()
    denoiser = Denoiser(network, SCHEDULE, prediction_type)
    got = guided(denoiser, x_t, t, cond, uncond, 7.5)
    assert network.batches == [6]  # one batch
    c, u = denoiser(x_t, t, cond), denoiser(x_t, t, uncond)
    for form in ("eps", "x0", "v"):
        with_c, with_u = getattr(c, form), getattr(u, form)
        torch.testing.assert_close(getattr(got, form), with_u + 7.5 * (with_c - with_u), rtol=1e-4, atol=1e-4)


def test_the_two_conventions_count_from_different_zeros():
    x_t, t, cond, uncond = inputs()
    denoiser = Denoiser(Network(), SCHEDULE, "v_prediction")
    a = guided(denoiser, x_t, t, cond, uncond, 8.5)
    b = guided(denoiser, x_t, t, cond, uncond, 7.5, cfg_convention="dreamfusion")
    near(a.eps, b.eps)
    c, u = denoiser(x_t, t, cond).v, denoiser(x_t, t, uncond).v
    torch.testing.assert_close(b.v, (1 + 7.5) * c - 7.5 * u, rtol=1e-5, atol=1e-5)


def test_no_guidance_evaluates_the_condition_alone():
    x_t, t, cond, uncond = inputs()
    network = Network()
    denoiser = Denoiser(network, SCHEDULE, "v_prediction")
    wanted = denoiser(x_t, t, cond).v
    for scale, convention in ((1.0, "cfg"), (0.0, "dreamfusion")):
        assert torch.equal(guided(denoiser, x_t, t, cond, uncond, scale, cfg_convention=convention).v, wanted)
        assert torch.equal(guided(denoiser, x_t, t, cond, None, scale, cfg_convention=convention).v, wanted)
    assert network.batches == [3] * 5


def test_rescale_equals_diffusers_and_restores_the_deviation():
    x_t, t, cond, uncond = inputs()
    denoiser = Denoiser(Network(), SCHEDULE, "v_prediction")
    c, u = denoiser(x_t, t, cond).v, denoiser(x_t, t, uncond).v
    plain = u + 7.5 * (c - u)
    near(guided(denoiser, x_t, t, cond, uncond, 7.5, rescale=0.7).v, rescale_noise_cfg(plain, c, 0.7))
    full = guided(denoiser, x_t, t, cond, uncond, 7.5, rescale=1.0)
    near(full.v.std((1, 2, 3)), c.std((1, 2, 3)))
    near(full.x0, SCHEDULE.x0_from_v(x_t, full.v, t))


def test_tensors_with_a_batch_follow_both_halves():
    x_t, t, cond, uncond = inputs()
    shift = torch.tensor([1.0, 2.0, 3.0])
    denoiser = Denoiser(Network(), SCHEDULE, "v_prediction")
    with_shift = guided(denoiser, x_t, t, cond, uncond, 5.0, shift=shift).v
    near(with_shift - guided(denoiser, x_t, t, cond, uncond, 5.0).v, shift.view(3, 1, 1, 1).expand_as(x_t))


def test_wrong_arguments_are_refused():
    x_t, t, cond, uncond = inputs()
    denoiser = Denoiser(Network(), SCHEDULE, "v_prediction")
    with pytest.raises(InputError, match="cfg or dreamfusion"):
        guided(denoiser, x_t, t, cond, uncond, 2.0, cfg_convention="imagen")
    for pair in ((cond, None), (None, uncond)):
        with pytest.raises(InputError, match="guidance"):
            guided(denoiser, x_t, t, *pair, 2.0)

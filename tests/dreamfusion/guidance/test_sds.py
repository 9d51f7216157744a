"""Score distillation against closed forms and a slow reference.

For data ~ N(mu, s^2 I) the exact denoiser is known: x_t ~ N(alpha mu, (alpha^2 s^2 + sigma^2) I), so
eps_hat = sigma (x_t - alpha mu) / (alpha^2 s^2 + sigma^2).
"""

import pytest
import torch
from torch.testing import assert_close

from dreamfusion.guidance.sds import sample_timesteps, score_distillation
from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.guidance import guided
from shared.diffusion.schedule import NoiseSchedule
from shared.models.image_model import load_image_model
from tests.tiny import build_image_folder, tiny_scheduler
from tests.tolerances import close

SCHEDULE = NoiseSchedule.from_scheduler(tiny_scheduler())
FLOW = NoiseSchedule(None, num_timesteps=1000)
SPREAD = 0.7


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def factors(t: torch.Tensor, parameterisation: str = "epsilon") -> tuple[torch.Tensor, torch.Tensor]:
    if parameterisation == "flow":
        sigma = (t.double() / 1000).view(-1, 1, 1, 1)
        return 1 - sigma, sigma
    alpha_bar = SCHEDULE.alpha_bar(t).double().view(-1, 1, 1, 1)
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def gaussian_denoiser(mean: torch.Tensor, parameterisation: str = "epsilon") -> Denoiser:
    """The exact denoiser of N(mean, SPREAD^2 I); with conditioning c, of N(mean + c, SPREAD^2 I)."""

    def network(x_t, t, conditioning):
        alpha, sigma = factors(t, parameterisation)
        mu = mean if conditioning is None else mean + conditioning.mean(dim=(1, 2)).view(-1, 1, 1, 1)
        eps = sigma * (x_t - alpha * mu) / (alpha**2 * SPREAD**2 + sigma**2)
        x0 = (x_t - sigma * eps) / alpha
        return {"epsilon": eps, "sample": x0, "v_prediction": alpha * eps - sigma * x0, "flow": eps - x0}[
            parameterisation
        ]

    return Denoiser(network, FLOW if parameterisation == "flow" else SCHEDULE, parameterisation)


T = torch.tensor([20, 300, 640, 979])


@pytest.mark.parametrize("parameterisation", ["epsilon", "v_prediction", "sample", "flow"])
def test_gradient_is_the_closed_form_for_gaussian_data(parameterisation):
    x, eps, mean = draw(4, 3, 6, 6), draw(4, 3, 6, 6, seed=1), draw(1, 3, 6, 6, seed=2)
    score = score_distillation(gaussian_denoiser(mean, parameterisation), x, T, eps)
    alpha, sigma = factors(T, parameterisation)
    variance = alpha**2 * SPREAD**2 + sigma**2
    wanted = sigma**2 * (sigma * alpha * (x - mean) - alpha**2 * SPREAD**2 * eps) / variance
    assert_close(score.gradient, wanted, rtol=1e-5, atol=1e-5)
    posterior_mean = mean + alpha * SPREAD**2 / variance * (alpha * x + sigma * eps - alpha * mean)
    assert_close(score.x0, posterior_mean, rtol=1e-5, atol=1e-5)


def test_expected_gradient_over_noise():
    """E_eps of equation 3 is sigma^3 alpha (x - mu) / (alpha^2 s^2 + sigma^2). Antithetic pairs give it exactly."""
    x, mean = draw(4, 3, 6, 6), draw(1, 3, 6, 6, seed=2)
    eps = draw(4, 3, 6, 6, seed=3)
    both = [score_distillation(gaussian_denoiser(mean), x, T, noise).gradient for noise in (eps, -eps)]
    alpha, sigma = factors(T)
    wanted = sigma**3 * alpha * (x - mean) / (alpha**2 * SPREAD**2 + sigma**2)
    assert_close((both[0] + both[1]) / 2, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("convention", "scale"), [("cfg", 7.5), ("dreamfusion", 6.5)])
def test_guided_gradient_in_both_conventions(convention, scale):
    """With condition c and none, eps_hat = eps_u + 7.5 (eps_c - eps_u): 7.5 in one convention, 6.5 in the other."""
    x, eps, mean = draw(4, 3, 6, 6), draw(4, 3, 6, 6, seed=1), draw(1, 3, 6, 6, seed=2)
    text, no_text = torch.full((4, 1, 1), 0.3).double(), torch.full((4, 1, 1), -0.2).double()
    denoiser = guided(gaussian_denoiser(mean), Conditioning(no_text), scale, convention=convention)
    score = score_distillation(denoiser, x, T, eps, Conditioning(text))
    alpha, sigma = factors(T)
    variance = alpha**2 * SPREAD**2 + sigma**2
    guided_mean = (mean - 0.2) + 7.5 * 0.5
    wanted = sigma**2 * (sigma * alpha * (x - guided_mean) - alpha**2 * SPREAD**2 * eps) / variance
    assert_close(score.gradient, wanted, rtol=1e-5, atol=1e-5)


def test_weight_may_be_given():
    x, eps, mean = draw(4, 3, 6, 6), draw(4, 3, 6, 6, seed=1), draw(1, 3, 6, 6, seed=2)
    args = (gaussian_denoiser(mean), x, T, eps)
    plain = score_distillation(*args)
    even = score_distillation(*args, weight=torch.ones(4))
    assert_close(plain.gradient, factors(T)[1] ** 2 * even.gradient)


def test_loss_has_exactly_this_gradient_through_a_renderer():
    """d loss / d theta = J^T gradient, and nothing flows through the denoiser."""
    jacobian, theta = draw(4 * 27, 5, seed=4), draw(5, seed=5).requires_grad_()
    x = (jacobian @ theta).view(4, 3, 3, 3)
    mean = draw(1, 3, 3, 3, seed=2)
    score = score_distillation(gaussian_denoiser(mean), x, T, draw(4, 3, 3, 3, seed=1))
    assert not score.gradient.requires_grad
    (by_pixel,) = torch.autograd.grad(score.loss(x), x, retain_graph=True)
    assert torch.equal(by_pixel, score.gradient)
    (by_theta,) = torch.autograd.grad(score.loss(x), theta)
    assert_close(by_theta, jacobian.T @ score.gradient.flatten(), **close(torch.float64))


def test_descent_finds_the_mode():
    """Gradient descent on x alone ends at the data's mean, from anywhere (over antithetic pairs of noise)."""
    x, mean = 3 * draw(1, 3, 4, 4), draw(1, 3, 4, 4, seed=2)
    generator = torch.Generator().manual_seed(0)
    for step in range(60):
        t, eps = sample_timesteps(1, 1000, generator), draw(1, 3, 4, 4, seed=step)
        for noise in (eps, -eps):
            score = score_distillation(gaussian_denoiser(mean), x, t, noise)
            x = x - 0.5 * score.gradient
    assert (x - mean).abs().max() < 0.1


def test_timesteps_are_uniform_over_their_range():
    t = sample_timesteps(20_000, 1000, torch.Generator().manual_seed(0))
    assert (t.min(), t.max()) == (20, 979)
    assert_close(
        t.double().quantile(torch.tensor([0.25, 0.5, 0.75]).double()), torch.tensor([260.0, 500, 740]).double(),
        rtol=0, atol=10,
    )  # fmt: skip
    late = sample_timesteps(1000, 1000, torch.Generator().manual_seed(0), t_min=0.02, t_max=0.3)
    assert late.max() < 300
    assert sample_timesteps(1000, 10, torch.Generator().manual_seed(0), t_min=0.5, t_max=1.0).max() == 9


@pytest.fixture(params=["tiny", "world"])
def model(request, tmp_path):
    return load_image_model("world" if request.param == "world" else build_image_folder(tmp_path / "model"))


def test_a_model_equals_a_slow_reference(model):
    channels = model.codec.latent_channels
    x, eps = draw(2, channels, 16, 16).float(), draw(2, channels, 16, 16, seed=1).float()
    cond, uncond = model.text.encode(["a red cube", "a blue ball"]), model.text.encode(["", ""])
    t = torch.tensor([120, 800])
    score = score_distillation(guided(model.denoiser, Conditioning(uncond), 9.0), x, t, eps, Conditioning(cond))
    alphas_cumprod = model.make_scheduler().alphas_cumprod
    for i in range(2):
        a, s = alphas_cumprod[t[i]].sqrt(), (1 - alphas_cumprod[t[i]]).sqrt()
        z = a * x[i] + s * eps[i]
        with torch.no_grad():
            v_cond = model.unet(z[None], t[i], encoder_hidden_states=cond[i, None]).sample[0]
            v_uncond = model.unet(z[None], t[i], encoder_hidden_states=uncond[i, None]).sample[0]
        eps_cond, eps_uncond = s * z + a * v_cond, s * z + a * v_uncond
        eps_hat = eps_uncond + 9.0 * (eps_cond - eps_uncond)
        assert_close(score.gradient[i], s**2 * (eps_hat - eps[i]), rtol=1e-4, atol=1e-4)  # guidance is a 9-fold

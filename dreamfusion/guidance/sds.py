"""Score distillation sampling (DreamFusion, section 2.1; equation 3).

x        = g(theta): a render, as pixels or as latents, whatever the denoiser works on
t        a timestep; alpha_t, sigma_t  of the noise schedule; eps  standard normal noise
z_t      = alpha_t x + sigma_t eps
eps_hat  the guided noise prediction for z_t, the prompt y and t
w(t)     a weight, sigma_t^2 as in the paper

    grad_theta L_SDS = E_{t, eps}[ w(t) (eps_hat(z_t; y, t) - eps) dx/dtheta ]        (3)

The denoiser's own Jacobian is left out, so no gradient flows through it. Since eps_hat - eps is
(alpha_t / sigma_t) (x - x0_hat), each step pulls x towards the denoiser's guess x0_hat.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shared.diffusion.conditioning import NOTHING, Conditioning
from shared.diffusion.denoiser import Denoiser


@dataclass(frozen=True)
class ScoreDistillation:
    """gradient: w(t) (eps_hat - eps) of each sample, the factor before dx/dtheta in equation 3.
    x0: the denoiser's guess at the clean x, for looking at.
    """

    gradient: Float[Tensor, "b ..."]
    x0: Float[Tensor, "b ..."]

    def loss(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
        """A scalar whose gradient with respect to x is `gradient`, exactly. Its value means nothing."""
        return (self.gradient.to(x.dtype) * x).sum()


def sample_timesteps(
    count: int, num_timesteps: int, generator: torch.Generator, *, t_min: float = 0.02, t_max: float = 0.98
) -> Int[Tensor, " b"]:
    """t ~ U(t_min, t_max) as shares of the schedule's length; the paper's range is the default."""
    share = t_min + (t_max - t_min) * torch.rand(count, generator=generator)
    return (share * num_timesteps).long().clamp(0, num_timesteps - 1)


@torch.no_grad()
def score_distillation(
    denoiser: Denoiser,
    x: Float[Tensor, "b ..."],
    t: Int[Tensor, " b"],
    noise: Float[Tensor, "b ..."],
    conditioning: Conditioning = NOTHING,
    *,
    weight: Float[Tensor, " b"] | None = None,
) -> ScoreDistillation:
    """Equation 3 for given timesteps and noise.

    denoiser: guided, by `shared.diffusion.guidance`: DreamFusion's w = 100 is its scale 100 in convention
        "dreamfusion".
    x: renders, where the denoiser works: pixels in [-1, 1] or scaled latents.
    weight: w(t) of each sample; None is sigma_t^2.
    """
    x = x.detach()
    z_t = denoiser.schedule.add_noise(x, noise, t)
    prediction = denoiser(z_t, t, conditioning)
    w = denoiser.schedule.sigma(t).square() if weight is None else weight
    gradient = w.to(x).view(-1, *[1] * (x.ndim - 1)) * (prediction.eps - noise)  # equation 3
    return ScoreDistillation(gradient, prediction.x0)

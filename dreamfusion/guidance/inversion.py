"""Score distillation via inversion (Lukoianov et al. 2024, algorithm 1): noise that is found, not drawn.

z_t      what DDIM would have started from to end at x: its steps (Song et al. 2021, equation 13), run backwards
s        a level on the way from 0 up to t;  eps_hat  the noise prediction at it

    z_s' = alpha_s' (z_s - sigma_s eps_hat(z_s; y, s)) / alpha_s + sigma_s' eps_hat(z_s; y, s),    z_0 = x
    eps  = (z_t - alpha_t x) / sigma_t

With it, equation 3 (see sds.py) has no random term: renders are pulled where one trajectory of DDIM would go, and not
to the mean of many, which is smooth and asks for strong guidance. While noise is found, the prompt pushes the other
way: in the paper by the negative of the guidance scale that distils.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shared.diffusion.conditioning import NOTHING, Conditioning
from shared.diffusion.denoiser import Denoiser


@torch.no_grad()
def inverted_noise(
    denoiser: Denoiser,
    x: Float[Tensor, "b ..."],
    t: Int[Tensor, " b"],
    conditioning: Conditioning = NOTHING,
    *,
    steps: int,
) -> Float[Tensor, "b ..."]:
    """eps for renders x at timesteps t, in `steps` evenly spaced steps up to them.

    denoiser: guided by the scale that inversion is to have. Levels of samples differ as their t do.
    """
    schedule = denoiser.schedule

    def signal_and_noise(level: Int[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        shape = (-1, *[1] * (x.ndim - 1))
        return schedule.alpha(level).view(shape).to(x), schedule.sigma(level).view(shape).to(x)

    x = x.detach()
    z, alpha, sigma = x, torch.ones_like(x), torch.zeros_like(x)
    for step in range(steps):
        eps = denoiser(z, t * step // steps, conditioning).eps
        clean = (z - sigma * eps) / alpha
        alpha, sigma = signal_and_noise(t * (step + 1) // steps)
        z = alpha * clean + sigma * eps
    return (z - alpha * x) / sigma

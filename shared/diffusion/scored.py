"""Guidance by a score of the clean data, such as a CLIP's similarity with the prompt.

S(x)    score of clean latents, a number a sample; k  its weight: data is wanted from p(x) exp(k S(x)).
x0      E[x0 | x_t], what the denoiser takes the clean latents to be; g = gradient of k S(x0) by x_t, through it.

Classifier guidance (Dhariwal and Nichol 2021, section 4.2) with exp(k S(x0)) for the classifier, so that no score
has to know noise (Bansal et al. 2023, equation 6): eps - sigma g. By the relations of `shared.diffusion.schedule`
that is x0 + sigma^2 / alpha g and v - sigma / alpha g. For Gaussian data and a linear score it is exact.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.diffusion.conditioning import NOTHING, Conditioning
from shared.diffusion.denoiser import Denoiser, Outputs
from shared.diffusion.guidance import GuidedDenoiser

Score = Callable[[Tensor], Tensor]  # clean latents "b ..." -> " b", differentiable
LEAST_ALPHA = 1e-3  # below, x_t says nothing of the clean data, and what x0 would change by is divided by zero


class Scored(GuidedDenoiser):
    """inner, guided or not, drawn to where `score` is high. scale: k. It takes a gradient through all that it wraps."""

    def __init__(self, inner: Denoiser, score: Score, scale: float) -> None:
        super().__init__(inner)
        self.score = score
        self.scale = scale

    def outputs(
        self, x_t: Float[Tensor, "b ..."], t: Shaped[Tensor, " b"], conditioning: Conditioning = NOTHING
    ) -> Outputs:
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            told = self.inner.outputs(x, t, conditioning)
            scores = self.score(self.inner.prediction(x, t, told.output).x0)
            (gradient,) = torch.autograd.grad(scores.sum(), x)  # of each sample its own: others do not depend on it
        g = self.scale * gradient.to(x_t.dtype)
        alpha, sigma = (
            values.to(x_t).view(-1, *[1] * (x_t.ndim - 1))
            for values in (self.schedule.alpha(t), self.schedule.sigma(t))
        )
        safe = alpha.clamp_min(LEAST_ALPHA)
        if self.prediction_type == "epsilon":
            change = -sigma * g
        elif self.prediction_type == "sample":
            change = sigma**2 / safe * g
        else:
            change = -sigma / safe * g
        change = torch.where(alpha > LEAST_ALPHA, change, 0.0)
        return Outputs(told.output.detach() + change, told.conditional.detach())

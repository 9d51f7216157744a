"""Guidance: denoisers that wrap a denoiser. They compose, and whatever takes a denoiser takes them.

D        the wrapped denoiser; all of this holds for its output in any parameterisation, since weights sum to 1.
c, u     its outputs with the condition and without (or with a negative one); s  guidance scale; w  = s - 1.

    Rescaled(ClassifierFree(denoiser, negative, 5.0), 0.5)          # guided, with its contrast pulled back
    Interval(..., low=0.3, high=5.0)                                # ... in the middle of the noise range alone
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.diffusion.conditioning import NOTHING, Conditioning, stack
from shared.diffusion.denoiser import Denoiser, Outputs, WrappedDenoiser
from shared.diffusion.guidance_name import CLASSIFIER_FREE
from shared.errors import InputError
from shared.plugins import load

CFG_CONVENTIONS = ("cfg", "dreamfusion")
Latents = Float[Tensor, "b ..."]
Timesteps = Shaped[Tensor, " b"]


class GuidedDenoiser(WrappedDenoiser):
    """One whose `conditional` is the wrapped one's, and whose `output` goes beyond it."""


class ClassifierFree(GuidedDenoiser):
    """u + s (c - u): Ho and Salimans 2022, equation 6, where w = s - 1. Both are evaluated in one batch.

    negative: what u is told, for one sample or for each. scale: s by convention "cfg", w by "dreamfusion", that
    of Ho and Salimans too: the first is no guidance at 1, the second at 0, and then c alone is evaluated.
    Raises InputError for an unknown convention, and where condition and negative do not say the same things.
    """

    def __init__(self, inner: Denoiser, negative: Conditioning, scale: float, *, convention: str = "cfg") -> None:
        super().__init__(inner)
        if convention not in CFG_CONVENTIONS:
            raise InputError("cfg_convention", expected=" or ".join(CFG_CONVENTIONS), got=convention)
        self.negative = negative
        self.scale = scale if convention == "cfg" else 1.0 + scale

    def outputs(self, x_t: Latents, t: Timesteps, conditioning: Conditioning = NOTHING) -> Outputs:
        if self.scale == 1.0:
            return self.inner.outputs(x_t, t, conditioning)
        both = stack([self.negative.expand(len(x_t)), conditioning.expand(len(x_t))])
        if not both.parts:
            raise InputError("guidance", expected="a condition and a negative one", got="neither")
        told = self.inner.outputs(torch.cat([x_t, x_t]), torch.cat([t, t]), both)
        u, c = told.output.chunk(2)
        return Outputs(u + self.scale * (c - u), told.conditional.chunk(2)[1])


def guided(
    denoiser: Denoiser,
    negative: Conditioning,
    scale: float,
    *,
    rescale: float = 0.0,
    convention: str = "cfg",
    weak: Denoiser | None = None,
    weak_scale: float = 1.0,
) -> GuidedDenoiser:
    """The guidance of our recipes: `ClassifierFree`, `AutoGuidance` where there is a `weak` model, and the contrast
    pulled back by `rescale`."""
    full: GuidedDenoiser = ClassifierFree(denoiser, negative, scale, convention=convention)
    return Rescaled(full if weak is None else AutoGuidance(full, weak, weak_scale), rescale)


def guided_by(
    recipe: Any,
    denoiser: Denoiser,
    negative: Conditioning,
    *,
    weak: Denoiser | None = None,
    weak_scale: float = 1.0,
    further: Callable[[Denoiser], GuidedDenoiser] | None = None,
) -> Denoiser:
    """The guidance that a recipe names: `guided`, or a plug-in's. negative: what its `negative` says, encoded.

    weak: what is steered away from by `weak_scale`, too (`AutoGuidance`). further: what is wrapped round it, where
    guidance is on at all.
    """
    if recipe.guidance == CLASSIFIER_FREE:
        full = guided(
            denoiser, negative, recipe.guidance_scale, rescale=recipe.guidance_rescale,
            convention=getattr(recipe, "cfg_convention", "cfg"), weak=weak, weak_scale=weak_scale,
        )  # fmt: skip
    else:
        full = load("guidance", recipe.guidance)(denoiser, negative, recipe)
        full = full if weak is None else AutoGuidance(full, weak, weak_scale)
    full = full if further is None else further(full)
    return between(full, getattr(recipe, "guidance_start", 0.0), getattr(recipe, "guidance_stop", 1.0))


class PerpNeg(GuidedDenoiser):
    """Several negatives, of which only what is perpendicular to the condition counts (Armandpour et al. 2023, eq. 7):

        u + s (p - sum_i w_i (n_i - (n_i . p) / (p . p) p)),    p = c - u,  n_i = (output for negative i) - u

    so that no negative takes away what the condition asks for. All are evaluated in one batch.

    nothing: what u is told. negatives: each with its weight w_i.
    """

    def __init__(
        self, inner: Denoiser, nothing: Conditioning, negatives: Sequence[tuple[Conditioning, float]], scale: float
    ) -> None:
        super().__init__(inner)
        self.nothing = nothing
        self.negatives = list(negatives)
        self.scale = scale

    def outputs(self, x_t: Latents, t: Timesteps, conditioning: Conditioning = NOTHING) -> Outputs:
        count = 2 + len(self.negatives)
        asked = [self.nothing, conditioning, *(negative for negative, _ in self.negatives)]
        told = self.inner.outputs(
            torch.cat([x_t] * count), torch.cat([t] * count), stack([each.expand(len(x_t)) for each in asked])
        )
        u, c, *others = told.output.chunk(count)
        p = c - u
        direction = p
        for other, (_, weight) in zip(others, self.negatives, strict=True):
            n = other - u
            direction = direction - weight * (n - _share(n, p) * p)
        return Outputs(u + self.scale * direction, told.conditional.chunk(count)[1])


def _share(n: Latents, p: Latents) -> Float[Tensor, "b ..."]:
    """(n . p) / (p . p) of each sample; 0 where p is."""
    dims = list(range(1, n.ndim))
    return (n * p).sum(dims, keepdim=True) / p.square().sum(dims, keepdim=True).clamp_min(torch.finfo(p.dtype).tiny)


class AutoGuidance(GuidedDenoiser):
    """D + (s - 1) (c - weak): away from a worse model of the same data (Karras et al. 2024a, equation 4).

    inner: D, with c its conditional output: D itself where nothing guides it, and then this is the equation. Guided, it
    goes both ways (as Hyung et al. 2024, "Spatiotemporal Skip Guidance", do beside classifier-free guidance). weak: of
    the same schedule and latents, and told the same. Raises InputError where it predicts something else.
    """

    def __init__(self, inner: Denoiser, weak: Denoiser, scale: float) -> None:
        super().__init__(inner)
        if weak.prediction_type != inner.prediction_type:
            raise InputError("the weaker model predicts", expected=inner.prediction_type, got=weak.prediction_type)
        self.weak = weak
        self.scale = scale

    def outputs(self, x_t: Latents, t: Timesteps, conditioning: Conditioning = NOTHING) -> Outputs:
        told = self.inner.outputs(x_t, t, conditioning)
        if self.scale == 1.0:
            return told
        weak = self.weak.outputs(x_t, t, conditioning).output
        return Outputs(told.output + (self.scale - 1.0) * (told.conditional - weak), told.conditional)


class Rescaled(GuidedDenoiser):
    """The guided output with the standard deviation of the conditional one, in part phi (Lin et al. 2023).

    inner: a guided denoiser. phi: in [0, 1]; 0 is off.
    """

    def __init__(self, inner: Denoiser, phi: float) -> None:
        super().__init__(inner)
        self.phi = phi

    def outputs(self, x_t: Latents, t: Timesteps, conditioning: Conditioning = NOTHING) -> Outputs:
        told = self.inner.outputs(x_t, t, conditioning)
        if not self.phi or told.output is told.conditional:
            return told
        return Outputs(rescaled(told.output, told.conditional, self.phi), told.conditional)


def rescaled(guided: Latents, conditional: Latents, phi: float) -> Float[Tensor, "b ..."]:
    """Equations 15 and 16 of Lin et al. 2023."""
    dims = list(range(1, guided.ndim))
    matched = guided * (conditional.std(dims, keepdim=True) / guided.std(dims, keepdim=True))  # equation 15
    return phi * matched + (1 - phi) * guided  # equation 16


class Interval(GuidedDenoiser):
    """Guidance in the middle of the noise range alone (Kynkaanniemi et al. 2024): where sigma_t / alpha_t, the noise
    beside unit signal, is in (low, high]; elsewhere what the guided denoiser wraps.

    inner: a guided denoiser. Samples of one batch may lie on both sides.
    """

    def __init__(self, inner: GuidedDenoiser, low: float, high: float) -> None:
        super().__init__(inner)
        self.low, self.high = low, high

    def outputs(self, x_t: Latents, t: Timesteps, conditioning: Conditioning = NOTHING) -> Outputs:
        noise = self.schedule.sigma(t) / self.schedule.alpha(t)  # infinite at zero signal
        inside = (noise > self.low) & (noise <= self.high)
        if not inside.any():
            return unguided(self.inner).outputs(x_t, t, conditioning)
        told = self.inner.outputs(x_t, t, conditioning)
        if inside.all():
            return told
        return Outputs(
            torch.where(inside.view(-1, *[1] * (x_t.ndim - 1)), told.output, told.conditional), told.conditional
        )


def between(inner: GuidedDenoiser, start: float, stop: float) -> GuidedDenoiser:
    """`Interval` by shares of the timesteps' way down, as diffusers' guiders have them; `inner` itself from 0 to 1."""
    schedule = inner.schedule

    def noise_at(share: float) -> float:
        t = torch.tensor([(1 - share) * (schedule.num_timesteps - 1)])
        return float(schedule.sigma(t) / schedule.alpha(t))

    if (start, stop) == (0.0, 1.0):
        return inner
    return Interval(inner, -1.0 if stop == 1 else noise_at(stop), math.inf if start == 0 else noise_at(start))


def unguided(denoiser: Denoiser) -> Denoiser:
    """What all guidance is wrapped round."""
    while isinstance(denoiser, GuidedDenoiser):
        denoiser = denoiser.inner
    return denoiser

"""Noise to data: diffusers' schedulers step, a `Denoiser` predicts, one generator a sample draws.

x_t latents, images "b c h w" or frames "b c t h w"; t timesteps of the scheduler.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin
from jaxtyping import Float
from torch import Tensor

from shared.denoiser import Denoiser, Prediction
from shared.errors import InputError, ModelError
from shared.exact_batches import ExactBatches
from shared.guidance import guided
from shared.rng import generator


@dataclass(frozen=True)
class SampleState:
    """After `step` of `total` denoising steps; `latents` are clean after the last."""

    step: int
    total: int
    latents: Float[Tensor, "b c ..."]


def standard_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32)


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    scheduler: SchedulerMixin,
    *,
    shape: tuple[int, ...],
    seeds: list[int],
    cond: Float[Tensor, "b n d"] | None,
    uncond: Float[Tensor, "b n d"] | None,
    guidance_scale: float = 1.0,
    rescale: float = 0.0,
    steps: int = 25,
    device: str | torch.device | None = None,
    draw_noise: Callable[[tuple[int, ...], torch.Generator], Tensor] = standard_normal,
) -> Iterator[SampleState]:
    """Sample `len(seeds)` latents of `shape` (c h w, or c t h w), yielding after every step.

    Sample i draws all its noise from `generator(seeds[i])`, so it does not depend on its batch, up to rounding.
    scheduler: any diffusers scheduler with the model's own noise schedule; its timesteps are set here.
    guidance_scale: convention "cfg" of `shared.guidance`. device: where cond is, unless given.
    draw_noise: (shape, generator) -> the noise that a sample starts from.

    Raises InputError when conditions and seeds differ in number, or the scheduler cannot take so many steps.
    """
    for what, condition in (("conditions", cond), ("negative conditions", uncond)):
        if condition is not None and len(condition) != len(seeds):
            raise InputError(f"number of {what}", expected=f"one for each of {len(seeds)} seeds", got=len(condition))
    if not seeds:
        raise InputError("samples", expected="at least one seed", got="none")
    if device is None:
        device = cond.device if cond is not None else "cpu"
    try:
        scheduler.set_timesteps(steps, device=device)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError("steps", expected=f"a number that {type(scheduler).__name__} can take", got=steps) from error

    generators = [generator(seed) for seed in seeds]
    noise = [draw_noise(shape, own) for own in generators]
    x_t = torch.stack(noise).to(device) * getattr(scheduler, "init_noise_sigma", 1.0)
    # Only schedulers that add noise as they go have a use for the generators.
    extra = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    form = _form(scheduler)

    timesteps = scheduler.timesteps
    for step, t in enumerate(timesteps, start=1):
        scaled = scheduler.scale_model_input(x_t, t) if hasattr(scheduler, "scale_model_input") else x_t
        with ExactBatches():
            prediction = guided(denoiser, scaled, t.expand(len(seeds)), cond, uncond, guidance_scale, rescale=rescale)
        x_t = scheduler.step(form(prediction), t, x_t, **extra).prev_sample
        yield SampleState(step, len(timesteps), x_t)


def _form(scheduler: SchedulerMixin) -> Callable[[Prediction], Tensor]:
    """Which of a prediction's forms the scheduler wants."""
    kind = "flow" if "FlowMatch" in type(scheduler).__name__ else scheduler.config.get("prediction_type", "epsilon")
    names = {"epsilon": "eps", "sample": "x0", "v_prediction": "v", "flow": "v", "flow_prediction": "v"}
    if kind not in names:
        raise ModelError("scheduler prediction_type", expected=", ".join(names), got=kind)
    return operator.attrgetter(names[kind])

"""Noise to data: diffusers' schedulers step, a `Denoiser` predicts, one generator a sample draws.

x_t latents, images "b c h w" or frames "b c t h w"; t timesteps of the scheduler.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.diffusion.conditioning import NOTHING, Conditioning
from shared.diffusion.denoiser import Denoiser, Prediction
from shared.diffusion.exact_batches import ExactBatches
from shared.diffusion.partial import Picture
from shared.diffusion.schedulers import check_sampler, form_of, set_steps
from shared.diffusion.step_noise import Draw, Noise, standard_normal
from shared.errors import InputError
from shared.rng import generator


@dataclass(frozen=True)
class SampleState:
    """After `step` of `total` denoising steps; `latents` are clean after the last.

    x0: what the network took the clean latents to be, in this step; to be looked at before the last.
    """

    step: int
    total: int
    latents: Float[Tensor, "b c ..."]
    x0: Float[Tensor, "b c ..."] | None = None


def sample(
    denoiser: Denoiser,
    scheduler: SchedulerMixin,
    *,
    shape: tuple[int, ...],
    seeds: list[int],
    conditioning: Conditioning = NOTHING,
    steps: int = 25,
    device: str | torch.device | None = None,
    draw_noise: Draw = standard_normal,
    picture: Picture | None = None,
) -> Generator[SampleState, Tensor | None, None]:
    """Sample `len(seeds)` latents of `shape` (c h w, or c t h w), yielding after every step.

    denoiser: guided or not, see `shared.diffusion.guidance`. conditioning: for each seed, or one for all.

    Sample i draws all its noise from `generator(seeds[i])`, so it does not depend on its batch, up to rounding.
    scheduler: any diffusers scheduler with the model's own noise schedule; its timesteps are set here.
    device: where the conditioning is, unless given.
    draw_noise: (shape, generator) -> noise: what a sample starts from, and what the scheduler adds as it steps.
    picture: what sampling begins with, part of the way; noise alone unless given.

    Raises InputError when conditions and seeds differ in number, or the scheduler cannot take so many steps, or cannot
    sample from this model.
    """
    if not seeds:
        raise InputError("samples", expected="at least one seed", got="none")
    told = conditioning.expand(len(seeds))
    device = device or told.device or "cpu"
    check_sampler(scheduler, denoiser.schedule)
    timesteps = set_steps(scheduler, steps, device)
    noise = Noise([generator(seed) for seed in seeds], shape, draw_noise)
    if picture is not None:
        timesteps = picture.timesteps(scheduler, timesteps, steps)
    begin = noise.start(device)
    return denoise(lambda x_t, t: denoiser(x_t, t, told), scheduler, timesteps, noise, begin, picture)


@torch.no_grad()
def denoise(
    predict: Callable[[Tensor, Tensor], Prediction],
    scheduler: SchedulerMixin,
    timesteps: Shaped[Tensor, " n"],
    noise: Noise,
    start: Float[Tensor, "b c ..."],
    picture: Picture | None = None,
) -> Generator[SampleState, Tensor | None, None]:
    """The loop of every sampler: from standard normal noise `start` to data, yielding after every step.

    predict: (x_t scaled as the network knows it, a timestep for each sample) -> prediction.
    timesteps: from `set_steps`. noise: what the scheduler's own noise is drawn from. picture: what it begins with, to
    which `start` is added.
    Latents that are sent into the generator take the place of its last state's.
    Raises InputError where the scheduler cannot take a step.
    """
    if picture is None:
        x_t = start * getattr(scheduler, "init_noise_sigma", 1.0)
    else:
        x_t = picture.begun(scheduler, start, timesteps[0])
    # Only schedulers that add noise as they go have a use for the generators.
    draws = "generator" in inspect.signature(scheduler.step).parameters
    extra = {"generator": list(noise.generators)} if draws else {}
    form = form_of(scheduler)
    for step, t in enumerate(timesteps, start=1):
        scaled = scheduler.scale_model_input(x_t, t) if hasattr(scheduler, "scale_model_input") else x_t
        with ExactBatches():
            prediction = predict(scaled, t.expand(len(x_t)))
        try:
            with noise.answering():
                x_t = scheduler.step(form(prediction), t, x_t, **extra).prev_sample
        except (ValueError, NotImplementedError) as error:  # what it cannot do, it says as it goes
            name = type(scheduler).__name__
            raise InputError(f"scheduler {name}", expected="one that can take the model's steps", got=error) from error
        if picture is not None:
            following = timesteps[step] if step < len(timesteps) else None
            x_t = picture.put_back(scheduler, x_t, start, following)
        changed = yield SampleState(step, len(timesteps), x_t, prediction.x0)
        x_t = x_t if changed is None else changed

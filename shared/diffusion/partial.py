"""Sampling that begins with a picture: part of the way from noise, and, with a mask, in part of it.

x0 clean latents of the picture, scaled; x_t as the scheduler knows it: some count noise in sigmas of their own.

With a strength s the last s of the steps are taken, from x0 with as much noise as the first of them has (SDEdit, Meng
et al. 2022). With `keep` what is 1 there is put back after every step, with the noise of the next (Lugmayr et al. 2022,
equation 8). diffusers' pipelines do both in the same way, step for step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.errors import InputError


@dataclass(frozen=True)
class Picture:
    """latents: x0 of every sample. strength: above 0, up to 1, the share of the steps. keep: 1 where x0 stays, else 0;
    None: nowhere.
    """

    latents: Float[Tensor, "b c h w"]
    strength: float = 1.0
    keep: Float[Tensor, "b 1 h w"] | None = None

    def to(self, device: torch.device | str) -> Picture:
        """On another device."""
        keep = None if self.keep is None else self.keep.to(device)
        return Picture(self.latents.to(device), self.strength, keep)

    def timesteps(self, scheduler: SchedulerMixin, timesteps: Shaped[Tensor, " n"], steps: int) -> Tensor:
        """Those that are left of the scheduler's, which is told where it begins.

        Raises InputError where none is.
        """
        taken = min(int(steps * self.strength), steps)
        if taken < 1:
            raise InputError(
                "strength", expected=f"{1 / steps:.3g} or more with {steps} steps", got=self.strength,
                hint="Or take more steps",
            )  # fmt: skip
        first = (steps - taken) * getattr(scheduler, "order", 1)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        return timesteps[first:]

    def begun(
        self, scheduler: SchedulerMixin, noise: Float[Tensor, "b c h w"], first: Shaped[Tensor, ""]
    ) -> Float[Tensor, "b c h w"]:
        """x_t of the first timestep. What is to be painted wholly anew begins as noise alone."""
        if self.keep is not None and self.strength == 1:
            return noise * getattr(scheduler, "init_noise_sigma", 1.0)
        return self._noisy(scheduler, noise, first)

    def put_back(
        self,
        scheduler: SchedulerMixin,
        x_t: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "b c h w"],
        following: Shaped[Tensor, ""] | None,
    ) -> Float[Tensor, "b c h w"]:
        """x_t, and where `keep` is 1 the picture at the `following` timestep; clean where there is none."""
        if self.keep is None:
            return x_t
        known = self.latents if following is None else self._noisy(scheduler, noise, following)
        return torch.lerp(x_t, known.to(x_t), self.keep.to(x_t))

    def _noisy(self, scheduler: SchedulerMixin, noise: Tensor, t: Tensor) -> Tensor:
        """In the scheduler's own terms, which know how it counts noise."""
        if hasattr(scheduler, "scale_noise"):  # those of rectified flow
            return scheduler.scale_noise(self.latents, t[None], noise)
        return scheduler.add_noise(self.latents, noise, t[None])

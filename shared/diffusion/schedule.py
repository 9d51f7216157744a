"""How much noise a timestep means, and the conversions that follow from it.

x0       clean data; eps  standard normal noise; t  timestep, 0 (almost clean) to num_timesteps - 1 (noise).
x_t      = alpha(t) x0 + sigma(t) eps.
v        diffusion: alpha eps - sigma x0 (Salimans and Ho 2022, section 4); rectified flow: eps - x0.

Diffusion has alpha^2 + sigma^2 = 1. Rectified flow has alpha = 1 - s, sigma = s with s = t / num_timesteps. In both,
x0 and eps follow from v without a division, which matters where alpha = 0 (zero terminal SNR, Lin et al. 2023).
"""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, SchedulerMixin
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.errors import KinoformError, ModelError

BETA_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)
FLOW = "flow_prediction"  # diffusers' name for what rectified flow predicts, in schedulers that know both


def is_flow(scheduler: SchedulerMixin) -> bool:
    """Whether a scheduler is for rectified flow."""
    return "FlowMatch" in type(scheduler).__name__ or scheduler.config.get("prediction_type") == FLOW


def prediction_type_of(scheduler: SchedulerMixin) -> str:
    """What the network of a scheduler's model predicts; one of `PREDICTION_TYPES` of the denoiser for known ones.

    A configuration that does not say means epsilon, as for diffusers.
    """
    return "flow" if is_flow(scheduler) else scheduler.config.get("prediction_type") or "epsilon"


class NoiseSchedule:
    """alpha(t), sigma(t) and what follows. Methods take `t` of shape "b" and broadcast over `x` of shape "b ...".

    `t` is an integer timestep. Fractional ones, which some diffusers schedulers produce, are interpolated.

    alpha_bar: alpha^2 at each timestep of a diffusion schedule; None for rectified flow.
    """

    def __init__(self, alpha_bar: Float[Tensor, " steps"] | None, num_timesteps: int | None = None) -> None:
        if alpha_bar is not None:
            num_timesteps = len(alpha_bar)
        if num_timesteps is None:
            raise ModelError("noise schedule", expected="alpha_bar, or num_timesteps of a rectified flow", got=None)
        self.is_flow = alpha_bar is None
        self.num_timesteps = num_timesteps
        self._alpha_bar = alpha_bar
        self.reaches_pure_noise = alpha_bar is None or bool(alpha_bar[-1] == 0)

    @classmethod
    def from_scheduler(cls, scheduler: SchedulerMixin) -> NoiseSchedule:
        """Read from a diffusers scheduler's config, so that Euler, DPM++ and others share DDIM's numbers.

        Raises ModelError for a scheduler that is neither a beta schedule nor rectified flow.
        """
        config = dict(scheduler.config)
        if is_flow(scheduler):
            if config.get("prediction_type", FLOW) not in (FLOW, "flow"):  # left over from another scheduler's
                raise ModelError(
                    f"scheduler {type(scheduler).__name__}",
                    expected="a model of rectified flow",
                    got=f"one that predicts {config['prediction_type']}",
                )
            return cls(None, num_timesteps=config["num_train_timesteps"])
        if "beta_schedule" not in config:
            raise ModelError("scheduler", expected="a beta schedule or rectified flow", got=type(scheduler).__name__)
        # Keys are picked one by one: from_config() would put DDIM's own defaults in place of this scheduler's.
        picked = {key: config[key] for key in BETA_KEYS if config.get(key) is not None}
        try:
            return cls(DDIMScheduler(**picked).alphas_cumprod)
        except NotImplementedError as error:
            raise ModelError(
                "scheduler beta_schedule",
                expected="linear, scaled_linear or squaredcos_cap_v2",
                got=config["beta_schedule"],
            ) from error

    def to(self, device: str | torch.device) -> NoiseSchedule:
        """The same schedule with its table on `device`."""
        return NoiseSchedule(None if self._alpha_bar is None else self._alpha_bar.to(device), self.num_timesteps)

    def alpha_bar(self, t: Shaped[Tensor, " b"]) -> Float[Tensor, " b"]:
        """alpha^2, in [0, 1]."""
        if self._alpha_bar is None:
            return (1 - t / self.num_timesteps) ** 2
        table = self._alpha_bar.to(t.device)
        if not t.is_floating_point():
            return table.index_select(0, t)  # unlike table[t], refuses negative timesteps
        below = t.floor().long()
        return torch.lerp(table.index_select(0, below), table.index_select(0, t.ceil().long()), (t - below).to(table))

    def alpha(self, t: Shaped[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The factor of the clean data in x_t, in [0, 1]."""
        return 1 - t / self.num_timesteps if self.is_flow else self.alpha_bar(t).sqrt()

    def sigma(self, t: Shaped[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The factor of the noise in x_t, in [0, 1]."""
        return t / self.num_timesteps if self.is_flow else (1 - self.alpha_bar(t)).sqrt()

    def log_snr(self, t: Shaped[Tensor, " b"]) -> Float[Tensor, " b"]:
        """log(alpha^2 / sigma^2); minus infinity where alpha = 0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def add_noise(
        self, x0: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], t: Shaped[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """x_t = alpha x0 + sigma eps."""
        alpha, sigma = self._alpha_sigma(x0, t)
        return alpha * x0 + sigma * eps

    def velocity(
        self, x0: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], t: Shaped[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """v = alpha eps - sigma x0; for rectified flow eps - x0."""
        if self.is_flow:
            return eps - x0
        alpha, sigma = self._alpha_sigma(x0, t)
        return alpha * eps - sigma * x0

    def x0_from_v(
        self, x_t: Float[Tensor, "b ..."], v: Float[Tensor, "b ..."], t: Shaped[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """x0 = alpha x_t - sigma v; for rectified flow x_t - sigma v."""
        alpha, sigma = self._alpha_sigma(x_t, t)
        return x_t - sigma * v if self.is_flow else alpha * x_t - sigma * v

    def eps_from_v(
        self, x_t: Float[Tensor, "b ..."], v: Float[Tensor, "b ..."], t: Shaped[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """eps = sigma x_t + alpha v; for rectified flow x_t + alpha v."""
        alpha, sigma = self._alpha_sigma(x_t, t)
        return x_t + alpha * v if self.is_flow else sigma * x_t + alpha * v

    def eps_from_x0(
        self, x_t: Float[Tensor, "b ..."], x0: Float[Tensor, "b ..."], t: Shaped[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """eps = (x_t - alpha x0) / sigma. No timestep of a diffusion schedule has sigma = 0."""
        alpha, sigma = self._alpha_sigma(x_t, t)
        return (x_t - alpha * x0) / sigma

    def x0_from_eps(
        self, x_t: Float[Tensor, "b ..."], eps: Float[Tensor, "b ..."], t: Shaped[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """x0 = (x_t - sigma eps) / alpha. Raises KinoformError where alpha = 0: there x_t says nothing about x0."""
        alpha, sigma = self._alpha_sigma(x_t, t)
        if self.reaches_pure_noise and bool((alpha == 0).any()):
            raise KinoformError(
                f"an epsilon prediction at timestep {self.num_timesteps - 1}",
                expected="a timestep with signal (alpha > 0)",
                got="zero terminal SNR",
                hint="Use a network that predicts v or x0, or a schedule without rescale_betas_zero_snr",
            )
        return (x_t - sigma * eps) / alpha

    def _alpha_sigma(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Both factors in x's dtype, shaped to broadcast over everything but the batch."""
        shape = (-1,) + (1,) * (x.ndim - 1)
        return self.alpha(t).to(x).view(shape), self.sigma(t).to(x).view(shape)

"""What a diffusion network is trained to say, and how much each noise level counts.

x0 clean data; eps noise; t timestep; x_t, v and SNR = alpha^2 / sigma^2 as in `shared.diffusion.schedule`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shared.diffusion.schedule import NoiseSchedule
from shared.training.half import autocast


def denoising_loss(
    predict: Callable[[Float[Tensor, "b ..."], Int[Tensor, " b"]], Float[Tensor, "b ..."]],
    schedule: NoiseSchedule,
    x0: Float[Tensor, "b ..."],
    eps: Float[Tensor, "b ..."],
    t: Int[Tensor, " b"],
    *,
    prediction_type: str,
    gamma: float,
    precision: str,
    difference_weight: float = 0.0,
) -> Float[Tensor, ""]:
    """Weighted mean square of what a network says of x_t against its target (Ho et al. 2020, equation 14, in general).

    predict: (x_t, t) -> the network's output. precision: that it runs in (`shared.training.half`).
    difference_weight: of clips, `b c t h w`, how much the change of the error from frame to frame counts beside the
    error itself. The mean that a network learns stays the same; what flickers weighs more than what all frames share.
    """
    with autocast(precision, x0.device):
        predicted = predict(schedule.add_noise(x0, eps, t), t)
    error = predicted.float() - target(schedule, prediction_type, x0, eps, t)
    by_sample = _mean_square(error)
    if difference_weight:
        by_sample = by_sample + difference_weight * _mean_square(error.diff(dim=2))
    return (loss_weight(schedule, prediction_type, t, gamma) * by_sample).mean()


def _mean_square(error: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    return error.square().flatten(1).mean(dim=1)


def target(
    schedule: NoiseSchedule,
    prediction_type: str,
    x0: Float[Tensor, "b ..."],
    eps: Float[Tensor, "b ..."],
    t: Int[Tensor, " b"],
) -> Float[Tensor, "b ..."]:
    """What the network should have said, in diffusers' names for prediction types."""
    if prediction_type == "epsilon":
        return eps
    return x0 if prediction_type == "sample" else schedule.velocity(x0, eps, t)


def loss_weight(
    schedule: NoiseSchedule, prediction_type: str, t: Int[Tensor, " b"], gamma: float
) -> Float[Tensor, " b"]:
    """Min-SNR weighting (Hang et al. 2023, section 3.4), as a factor of the squared error of the target.

    x0: min(SNR, gamma). eps: min(SNR, gamma) / SNR. v: (min(SNR, gamma) + 1) / (SNR + 1), shifted by one from the
    paper's, which would give no weight to pure noise (SNR = 0), where layout and direction of motion are decided.
    Rectified flow: 1.
    """
    if schedule.is_flow:
        return torch.ones_like(t, dtype=torch.float32)
    snr = schedule.alpha_bar(t) / (1 - schedule.alpha_bar(t))
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1)
    return snr.clamp(max=gamma) if prediction_type == "sample" else (snr.clamp(max=gamma) + 1) / (snr + 1)


def stratified_timesteps(
    count: int, num_timesteps: int, draw: torch.Generator, *, bias: float = 1.0
) -> Int[Tensor, " count"]:
    """t = T (1 - u^bias), one u from each of `count` equal strata of (0, 1): less variance than independent draws.

    Uniform for bias 1, more often noisy above it: what is where, and so what the prompt is about, is decided at high
    noise; the rest is texture.
    """
    u = (torch.arange(count) + torch.rand(count, generator=draw)) / count
    return ((1 - u**bias) * num_timesteps).long().clamp(0, num_timesteps - 1)

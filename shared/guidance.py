"""Classifier-free guidance (Ho and Salimans 2022) and its rescaling (Lin et al. 2023).

c, u     the network's outputs with the condition and without; s  guidance scale; w  = s - 1; phi  rescale factor.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.denoiser import Denoiser, Prediction
from shared.errors import InputError

CFG_CONVENTIONS = ("cfg", "dreamfusion")


def guided(
    denoiser: Denoiser,
    x_t: Float[Tensor, "b ..."],
    t: Shaped[Tensor, " b"],
    cond: Float[Tensor, "b n d"] | None,
    uncond: Float[Tensor, "b n d"] | None,
    guidance_scale: float,
    *,
    cfg_convention: str = "cfg",
    rescale: float = 0.0,
    **extra: Any,
) -> Prediction:
    """The guided prediction; condition and no condition are evaluated in one batch.

    cfg_convention says what `guidance_scale` counts:
        "cfg"          u + s (c - u), the convention of most samplers: 1 is no guidance.
        "dreamfusion"  (1 + w) c - w u, that of Ho and Salimans and of DreamFusion: 0 is no guidance.
    rescale: phi in [0, 1] of Lin et al. 2023, equations 15 and 16; 0 is off. Applied to what the network predicts.
    extra: goes to the network; tensors with a batch are repeated for both halves.

    Without guidance (s = 1) only the condition is evaluated.
    Raises InputError for an unknown convention, or guidance without an `uncond`.
    """
    if cfg_convention not in CFG_CONVENTIONS:
        raise InputError("cfg_convention", expected=" or ".join(CFG_CONVENTIONS), got=cfg_convention)
    scale = guidance_scale if cfg_convention == "cfg" else 1.0 + guidance_scale
    if scale == 1.0:
        return denoiser(x_t, t, cond, **extra)
    if cond is None or uncond is None:
        raise InputError("guidance", expected="both a condition and a negative condition", got=None)
    doubled = {
        name: torch.cat([value, value]) if isinstance(value, Tensor) and value.shape[:1] == x_t.shape[:1] else value
        for name, value in extra.items()
    }
    both = denoiser.output(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([uncond, cond]), **doubled)
    output_u, output_c = both.chunk(2)
    # Weights sum to 1 and x_t is shared, so guiding eps, x0 or v is the same thing.
    output = output_u + scale * (output_c - output_u)
    if rescale:
        output = rescaled(output, output_c, rescale)
    return denoiser.prediction(x_t, t, output)


def rescaled(
    guided_output: Float[Tensor, "b ..."], conditional_output: Float[Tensor, "b ..."], phi: float
) -> Float[Tensor, "b ..."]:
    """Give the guided output the standard deviation of the conditional one (Lin et al. 2023), in part `phi`."""
    dims = list(range(1, guided_output.ndim))
    std_cond, std_cfg = conditional_output.std(dims, keepdim=True), guided_output.std(dims, keepdim=True)
    matched = guided_output * (std_cond / std_cfg)  # equation 15
    return phi * matched + (1 - phi) * guided_output  # equation 16

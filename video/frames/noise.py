"""Noise for the frames of a clip, part of it shared by all (Ge et al. 2023, "Preserve Your Own Correlation").

eps_i = sqrt(share) eps_shared + sqrt(1 - share) eps_own_i,     each "c h w", standard normal;

so every frame's noise is standard normal, as the image network knows it, and any two frames' noise has correlation
`share`. A frozen image network puts things where the noise says: with a shared part, frames agree about it from the
first step on; where a scheduler adds noise in later steps, that has its share too. Training and sampling must use the
same share, so it is kept in the temporal layers' configuration. (In the paper's terms, section 4.1, "mixed noise" with
a^2 = share / (1 - share).)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from shared.diffusion.step_noise import standard_normal


def mixed_noise(shape: Sequence[int], generator: torch.Generator, *, share: float) -> Float[Tensor, "*batch c t h w"]:
    """Standard normal noise of `shape` (..., c, t, h, w), float32 where the generator is; with share 0, torch.randn."""
    own = standard_normal(tuple(shape), generator)
    if not share:
        return own
    common = standard_normal((*shape[:-3], 1, *shape[-2:]), generator)
    return math.sqrt(share) * common + math.sqrt(1 - share) * own

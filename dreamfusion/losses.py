"""Regularisers of DreamFusion (appendix A.2). Both have gradients that reach the density.

w_i  weight of sample i of a ray; n_i  unit normal there; v  direction of the ray, away from the camera.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def opacity_loss(opacity: Float[Tensor, " rays"]) -> Float[Tensor, ""]:
    """mean over rays of sqrt((sum_i w_i)^2 + 0.01): empty space stays empty. `opacity` is sum_i w_i, in [0, 1]."""
    return torch.sqrt(opacity.square() + 0.01).mean()


def orientation_terms(
    weights: Float[Tensor, " p"], normals: Float[Tensor, "p 3"], directions: Float[Tensor, "p 3"]
) -> Float[Tensor, " p"]:
    """stop_gradient(w_i) max(0, n_i . v)^2 of each sample: visible normals that face away from the camera are wrong.

    Following the paper, the weights are constants here and the normals are not: the gradient reaches the density
    through them. (Ref-NeRF, equation 11, has the gradient in the weights too.)
    """
    return weights.detach() * (normals * directions).sum(dim=-1).clamp(min=0).square()

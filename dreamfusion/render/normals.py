"""Unit normals of a density field, n = -grad tau / |grad tau| (DreamFusion, section 3.1), with gradients to the field.

Both ways are differentiable with respect to the field's parameters. `autograd_normals` is the reference; it needs a
field that can be differentiated twice, which torch's grid_sample cannot. `normals` uses six evaluations instead.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dreamfusion.fields.field import Field


def autograd_normals(field: Field, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
    """Unit normals by differentiating the density twice; zero where the density is constant."""
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(field.density(points).sum(), points, create_graph=True)
    return -functional.normalize(gradient, dim=-1)


def normals(field: Field, points: Float[Tensor, "p 3"], step: float) -> Float[Tensor, "p 3"]:
    """Unit normals by central differences over `step` world units each way; zero where the density is constant.

    (tau(mu + h e_k) - tau(mu - h e_k)) is 2 h d tau / d mu_k up to third order. The usual four evaluations on a
    tetrahedron err in first order, to the same side everywhere, which shows in shading.
    """
    offsets = step * torch.eye(3, dtype=points.dtype, device=points.device)
    around = torch.stack([points[:, None] + offsets, points[:, None] - offsets])
    above, below = field.density(around.reshape(-1, 3)).view(2, -1, 3)
    return -functional.normalize(above - below, dim=-1)

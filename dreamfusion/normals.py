"""Surface normals of a density field, n = -grad tau / |grad tau| (DreamFusion, section 3.1), with gradients to the field.

Both ways are differentiable with respect to the field's parameters. `autograd_normals` is the reference; it needs a
field that can be differentiated twice, which torch's grid_sample cannot. `normals` uses four evaluations instead.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dreamfusion.field import Field


def autograd_normals(field: Field, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
    """Unit normals by differentiating the density twice; zero where the density is constant."""
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(field.density(points).sum(), points, create_graph=True)
    return -functional.normalize(gradient, dim=-1)


def normals(field: Field, points: Float[Tensor, "p 3"], step: float) -> Float[Tensor, "p 3"]:
    """Unit normals by finite differences over `step` world units; zero where the density is constant.

    The four corners k_i of a tetrahedron satisfy sum k_i = 0 and sum k_i k_i^T = 4 I, so sum_i k_i tau(mu + h k_i) is
    4 h grad tau up to second order.
    """
    corners = points.new_tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    around = (points[:, None] + step * corners).reshape(-1, 3)
    density = field.density(around).view(-1, 4)
    return -functional.normalize(density @ corners, dim=-1)

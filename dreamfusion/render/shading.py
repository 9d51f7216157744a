"""Colour from albedo, normal and light (DreamFusion, section 3.1).

albedo        c = rho
lambertian    c = rho (l_a + l_d max(0, n . l))
textureless   the same with rho = 1: shape alone
with l_a the ambient and l_d the diffuse light, l the unit direction towards the light. The paper has a point light;
this is its limit far away, which is what pictures of the world are lit by.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

Shading = Literal["albedo", "lambertian", "textureless"]

AMBIENT = 0.4
DIFFUSE = 0.6


def shade(
    shading: Shading,
    albedo: Float[Tensor, "p 3"],
    normal: Float[Tensor, "p 3"] | None = None,
    light: Float[Tensor, "p 3"] | None = None,
) -> Float[Tensor, "p 3"]:
    """The colour that leaves each point. `normal` and `light` (unit, towards the light) are needed unless "albedo"."""
    if shading == "albedo":
        return albedo
    assert normal is not None, f"{shading} shading without normals"
    assert light is not None, f"{shading} shading without light"
    received = AMBIENT + DIFFUSE * (normal * light).sum(dim=-1, keepdim=True).clamp(min=0)
    return received.expand_as(albedo) if shading == "textureless" else albedo * received

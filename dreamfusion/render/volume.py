"""Volume rendering of a field along rays (DreamFusion, equation 5).

mu_i     sample i of a ray, at depth t_i along it; delta  distance between samples (world units)
tau_i    density at mu_i
alpha_i  = 1 - exp(-tau_i delta), what sample i absorbs of the light that reaches it
T_i      = prod_{j<i} (1 - alpha_j), what reaches sample i
w_i      = alpha_i T_i, its weight in the pixel
C        = sum_i w_i c_i, the pixel's colour before the background; opacity = sum_i w_i

Colours are premultiplied: over a background b the pixel is C + (1 - opacity) b. `render_rays_reference` is a plain
loop over samples; `render_rays` evaluates the field only where an occupancy grid says it may be, and normals only
where `least_weight` is reached. Autograd gives the exact gradients of what they compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from dreamfusion.fields.field import Field
from dreamfusion.fields.occupancy import OccupancyGrid
from dreamfusion.losses import orientation_terms
from dreamfusion.render.normals import normals
from dreamfusion.render.shading import Shading, shade


@dataclass(frozen=True)
class RayRender:
    """colour: C, premultiplied. opacity: in [0, 1]. depth: sum_i w_i t_i (over opacity, the depth of the surface).
    orientation: the ray's orientation penalty (zeros with albedo shading). queried: field evaluations, without normals.
    """

    colour: Float[Tensor, "rays 3"]
    opacity: Float[Tensor, " rays"]
    depth: Float[Tensor, " rays"]
    orientation: Float[Tensor, " rays"]
    queried: int


def joined(parts: Sequence[RayRender]) -> RayRender:
    """Renders of several bundles of rays as one."""
    names = ("colour", "opacity", "depth", "orientation")
    tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return RayRender(**tensors, queried=sum(part.queried for part in parts))


def ray_ball(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], radius: float
) -> tuple[Float[Tensor, " rays"], Float[Tensor, " rays"]]:
    """Depths (near, far), near >= 0, between which each ray is inside the ball; near = far where it misses."""
    towards = -(origins * directions).sum(dim=-1)
    miss = (origins + towards[:, None] * directions).square().sum(dim=-1)
    half = (radius**2 - miss).clamp(min=0).sqrt()
    near = (towards - half).clamp(min=0)
    return near, torch.maximum(towards + half, near)


def sample_depths(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    radius: float,
    samples: int,
    offset: Float[Tensor, " rays"] | None = None,
) -> tuple[Float[Tensor, "rays samples"], Bool[Tensor, "rays samples"], float]:
    """(t, inside, delta): depths delta = 2 radius / samples apart from where each ray enters the ball of `radius`.

    offset: in [0, 1), where in its interval each ray takes its samples; None takes the middle.
    """
    near, far = ray_ball(origins, directions, radius)
    delta = 2 * radius / samples
    start = 0.5 if offset is None else offset[:, None]
    t = near[:, None] + delta * (torch.arange(samples, device=near.device, dtype=near.dtype) + start)
    return t, t < far[:, None], delta


def composite_weights(optical: Float[Tensor, "rays samples"]) -> Float[Tensor, "rays samples"]:
    """w_i from the optical thickness tau_i delta >= 0, infinite ones too: T_i is exp of minus the sum over the samples
    before i. (The sum up to i minus its last term would be wrong where that term is large, and not a number where it is
    infinite.)"""
    before = functional.pad(torch.cumsum(optical[..., :-1], dim=-1), (1, 0))
    return torch.exp(-before) * -torch.expm1(-optical)


def render_rays_reference(
    field: Field,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    *,
    samples: int,
    shading: Shading = "albedo",
    light: Float[Tensor, "rays 3"] | None = None,
    offset: Float[Tensor, " rays"] | None = None,
    normal_step: float = 0.02,
) -> RayRender:
    """Front to back, one sample after the other. Arguments as in `render_rays`."""
    t, inside, delta = sample_depths(origins, directions, field.radius, samples, offset)
    transmittance = torch.ones_like(t[:, 0])
    colour, depth, orientation = torch.zeros_like(origins), torch.zeros_like(t[:, 0]), torch.zeros_like(t[:, 0])
    for i in range(samples):
        points = origins + t[:, i, None] * directions
        density, albedo = field(points)
        alpha = -torch.expm1(-torch.where(inside[:, i], density, 0.0) * delta)
        weight = transmittance * alpha
        if shading == "albedo":
            sample_colour = shade(shading, albedo)
        else:
            normal = normals(field, points, normal_step)
            sample_colour = shade(shading, albedo, normal, light)
            orientation = orientation + orientation_terms(weight, normal, directions)
        colour = colour + weight[:, None] * sample_colour
        depth = depth + weight * t[:, i]
        transmittance = transmittance * (1 - alpha)
    return RayRender(colour, 1 - transmittance, depth, orientation, t.numel())


def render_rays(
    field: Field,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    *,
    samples: int,
    shading: Shading = "albedo",
    light: Float[Tensor, "rays 3"] | None = None,
    offset: Float[Tensor, " rays"] | None = None,
    normal_step: float = 0.02,
    occupancy: OccupancyGrid | None = None,
    least_weight: float = 0.0,
) -> RayRender:
    """Renders rays with unit `directions`.

    samples: along a diameter of the ball of the field's radius; shorter chords take fewer.
    light: unit direction towards the light, for each ray. offset: see `sample_depths`.
    normal_step: world units between the evaluations that make a normal.
    occupancy: samples in its empty cells count as density 0 and are not evaluated; None evaluates all.
    least_weight: samples with a smaller w_i, the haze, are not worth a normal and are shaded as if turned halfway to
        the light; no effect on albedo shading.
    """
    t, active, delta = sample_depths(origins, directions, field.radius, samples, offset)
    rays = active.nonzero()[:, 0]
    chosen_t = t[active]
    points = origins[rays] + chosen_t[:, None] * directions[rays]
    if occupancy is not None:
        kept = occupancy(points)
        active = active.masked_scatter(active, kept)
        rays, chosen_t, points = rays[kept], chosen_t[kept], points[kept]
    density, albedo = field(points)
    optical = torch.zeros_like(t).masked_scatter(active, density * delta)
    weights = composite_weights(optical)
    opacity = weights.sum(dim=-1)
    depth = (weights * t).sum(dim=-1)
    weight, queried = weights[active], len(points)
    orientation = torch.zeros_like(opacity)
    if shading == "albedo":
        colour = shade(shading, albedo)
    else:
        assert light is not None, f"{shading} shading without light"
        seen = (weight.detach() >= least_weight).nonzero()[:, 0]
        normal = normals(field, points[seen], normal_step)
        terms = orientation_terms(weight[seen], normal, directions[rays[seen]])
        orientation = orientation.index_add(0, rays[seen], terms)
        light = light[rays]
        colour = shade(shading, albedo, (light / 2).index_copy(0, seen, normal), light)  # haze: n . l = 1 / 2
    pixels = torch.zeros_like(origins).index_add(0, rays, weight[:, None] * colour)
    return RayRender(pixels, opacity, depth, orientation, queried)

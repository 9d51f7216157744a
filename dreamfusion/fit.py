"""A first field from sampled views: seconds in place of the first part of a distillation.

A teacher of several views at once can sample them, evenly around one thing at one height. A field is fitted to those
pictures as a NeRF is to photographs (Mildenhall et al. 2020, equation 6).

p   a picture, in [-1, 1];  b  its background, the median of its border;  p'  the render over b
m   matte: how much of a pixel the thing covers, in [0, 1]
o   opacity of the render, in [0, 1]

    loss = mean (p' - p)^2 + SILHOUETTE_WEIGHT mean( -m log o - (1 - m) log(1 - o) ) + BENDING_WEIGHT bending

The second term carves empty space: where little is left, the first one's gradient vanishes with what is left. The third
smooths: what views disagree about would be ripples. Shading tells shape as well, but only where the light is known: its
direction is found along with the field.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dreamfusion.critics import ViewTeacher, ViewWords
from dreamfusion.fields.field import BendingField, device_of
from dreamfusion.fields.occupancy import OccupancyGrid
from dreamfusion.optimise import DistillState, Judged, optimise
from dreamfusion.recipe import AssetRecipe
from dreamfusion.scene import Scene, render_views
from dreamfusion.views import Views, make_views
from shared.cameras import ELEVATION, LIGHT_ELEVATION, LIGHT_SPREAD, direction
from shared.diffusion.sampling import SampleState, sample
from shared.models.image_model import ImageModel
from shared.rng import generator

SILHOUETTE_WEIGHT = 0.1
BENDING_WEIGHT = 3.0
CLEAR = 0.12  # of [-1, 1]: a picture that differs less from its background shows nothing
LEAST = 1e-4  # opacities nearer than this to 0 or 1 are as good
LEVELS = 3  # sizes of renders, each twice the one before; with half as many views, each takes twice as many rays
RATE = 2.5  # of learning, beside distillation's: this gradient is no random one
FLAT_SHARE = 0.6  # of the steps, without shading: there is no surface yet to have normals


@dataclass(frozen=True)
class Pictures:
    """What is fitted: pixels in [-1, 1] of every view."""

    views: Views
    pixels: Float[Tensor, "n 3 h w"]

    @property
    def background(self) -> Float[Tensor, "n 3"]:
        """Median colour of each picture's border, in [-1, 1]."""
        x = self.pixels
        return torch.cat([x[:, :, 0], x[:, :, -1], x[..., 0], x[..., -1]], dim=-1).median(dim=-1).values

    @property
    def matte(self) -> Float[Tensor, "n h w"]:
        """The share of each pixel that the thing covers: 1 where it and all its neighbours differ from the background,
        0 where none does. Between, at an edge, how much it differs beside the neighbour that differs most."""
        apart = (self.pixels - self.background[..., None, None]).abs().amax(dim=1)
        most = functional.max_pool2d(apart, 3, stride=1, padding=1)
        least = -functional.max_pool2d(-apart, 3, stride=1, padding=1)
        edge = torch.where(most > CLEAR, apart / most.clamp(min=CLEAR), 0.0)
        return torch.where(least > CLEAR, 1.0, edge)


def ring(count: int, size: int) -> Views:
    """`count` views evenly around from the front, from the middle of the heights that pictures are taken from, and lit
    from the middle of where light comes from in those."""
    azimuth = torch.arange(count) * (360.0 / count)
    return make_views(azimuth, torch.full((count,), sum(ELEVATION) / 2), lit(azimuth, torch.zeros(2)), size)


def lit(azimuth: Float[Tensor, " n"], lamp: Float[Tensor, " 2"]) -> Float[Tensor, "n 3"]:
    """Directions towards a light that goes along with cameras at `azimuth` degrees, as the world's does with views.

    lamp: how far to the side, and how high: tanh of it is -1 to 1 over the range that pictures have.
    """
    side, height = torch.tanh(lamp)
    low, high = LIGHT_ELEVATION
    elevation = (low + high) / 2 + (high - low) / 2 * height
    return direction(azimuth + LIGHT_SPREAD * side, elevation.expand(len(azimuth)))


@torch.no_grad()
def sample_ring(model: ImageModel, recipe: AssetRecipe, teacher: ViewTeacher) -> Iterator[SampleState]:
    """Sample `recipe.fit_views` views of one thing; yields after every step, latents "1 c t h w"."""
    side = model.default_size // model.codec.factor
    views = ring(recipe.fit_views, model.default_size)
    told, negative = ViewWords(model, recipe)(views)
    yield from sample(
        teacher.guided_by(recipe, negative, recipe.fit_guidance_scale),
        model.make_scheduler(),
        shape=(model.codec.latent_channels, len(views), side, side),
        seeds=[recipe.seed],
        conditioning=told,
        steps=recipe.fit_sampling_steps,
        draw_noise=teacher.draw_noise,
    )


@torch.no_grad()
def pictures_of(model: ImageModel, latents: Float[Tensor, "1 c t h w"]) -> Pictures:
    """The pictures of latents that `sample_ring` ends with."""
    pixels = model.codec.decode(rearrange(latents, "1 c t h w -> t c h w"))
    return Pictures(ring(len(pixels), pixels.shape[-1]), pixels)


class Photometry:
    """The loss above, on renders that grow up to `recipe.render_size`; of their views each step sees another part.

    lamp: see `lit`; to be found along with the scene.
    """

    def __init__(self, pictures: Pictures, recipe: AssetRecipe) -> None:
        self.views, self.recipe = pictures.views, recipe
        self.sizes = [max(recipe.render_size >> (LEVELS - 1 - level), 4) for level in range(LEVELS)]
        self.pixels = [resized(pictures.pixels, size) for size in self.sizes]
        self.mattes = [resized(pictures.matte[:, None], size) for size in self.sizes]
        self.background = (pictures.background + 1) / 2
        self.lamp = torch.zeros(2, requires_grad=True)

    def __call__(self, scene: Scene, occupancy: OccupancyGrid, done: float, step: int) -> Judged:
        level, total = int(LEVELS * done), len(self.views)
        count = max(total >> level, 1)
        which = [(step + total * i // count) % total for i in range(count)]
        views = self.views.chosen(which, self.sizes[level])
        views = replace(views, light=lit(torch.tensor(views.azimuth), self.lamp))
        pixels, rays = render_views(
            scene, views, samples=self.recipe.samples, shading="albedo" if done < FLAT_SHARE else "lambertian",
            occupancy=occupancy, draw=generator(self.recipe.seed, 4, step), device=device_of(scene.field),
            checkpointing=self.recipe.checkpointing, behind=self.background[which],
        )  # fmt: skip
        error = pixels - self.pixels[level][which].to(pixels)
        matte = self.mattes[level][which].flatten().to(pixels)
        loss = error.square().mean() + SILHOUETTE_WEIGHT * silhouette_loss(rays.opacity, matte)
        if isinstance(scene.field, BendingField):
            loss = loss + BENDING_WEIGHT * scene.field.bending()
        return Judged(loss, float(error.detach().square().mean().sqrt()), pixels)


def resized(x: Float[Tensor, "n c _ _"], size: int) -> Float[Tensor, "n c {size} {size}"]:
    """Each pixel the mean of those that it covers."""
    return functional.interpolate(x, (size, size), mode="area")


def silhouette_loss(opacity: Float[Tensor, " rays"], matte: Float[Tensor, " rays"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of opacities and mattes, both in [0, 1]."""
    return functional.binary_cross_entropy(opacity.clamp(LEAST, 1 - LEAST), matte)


def fit(scene: Scene, pictures: Pictures, recipe: AssetRecipe) -> Iterator[DistillState]:
    """Fit `scene` to pictures; yields after each of `recipe.fit_steps` steps."""
    asked = Photometry(pictures, recipe)
    rate = RATE * recipe.learning_rate
    return optimise(scene, asked, steps=recipe.fit_steps, learning_rate=rate, beside=[asked.lamp])

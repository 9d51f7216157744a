"""A picture to begin with: another one like it, something else in a part of it, or more of it on its sides.

pixels in [-1, 1]; paint is 1 where a picture is painted anew, 0 where it stays, between them where both show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from shared.artifacts.media import read_image
from shared.artifacts.pictures import checked_mask
from shared.artifacts.pixels import fitted, from_uint8
from shared.diffusion.partial import Picture
from shared.images.borders import parse_borders
from shared.images.recipe import ImageRecipe
from shared.latents.codec import Codec
from shared.latents.sizes import check_multiple, check_size
from shared.models.image_model import ImageModel
from shared.models.pipelines.classes import SMALL


@dataclass(frozen=True)
class Canvas:
    """What a result begins with. paint: None where all of it may change."""

    pixels: Float[Tensor, "1 3 h w"]
    paint: Float[Tensor, "1 1 h w"] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[-1], self.pixels.shape[-2]

    def kept(self, painted: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """`painted`, and where it was not to change the picture itself."""
        if self.paint is None:
            return painted
        return torch.lerp(self.pixels.to(painted).expand_as(painted), painted, self.paint.to(painted))

    @torch.no_grad()
    def picture(self, codec: Codec, count: int, strength: float, device: str | torch.device) -> Picture:
        """What sampling `count` latents begins with. A latent is painted anew where any of its pixels is."""
        latents = codec.encode(self.pixels.to(device)).float().expand(count, -1, -1, -1)
        if self.paint is None:
            return Picture(latents, strength)
        touched = F.max_pool2d((self.paint > 0).float(), codec.factor)
        return Picture(latents, strength, (1 - touched).expand(count, -1, -1, -1).to(device))


def canvas_for(model: ImageModel, recipe: ImageRecipe) -> Canvas | None:
    """What the recipe's picture begins with, in the model's size unless it gives one; None for noise alone."""
    if model.sees == SMALL:
        return None
    return canvas_of(recipe, *size_for(model, recipe), model.codec.factor)


def size_for(model: ImageModel, recipe: ImageRecipe) -> tuple[int, int]:
    """Width and height in pixels of a recipe's picture, without what `extend` adds: where it does not say them, the
    model's own, of an upscaler its picture's times the codec's factor. Raises InputError as `picture_size` does.
    """
    own = _enlarged(recipe, model.codec.factor) if model.sees == SMALL else None
    return picture_size(model, recipe.width, recipe.height, own)


def picture_size(
    model: ImageModel, width: int | None, height: int | None, own: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Width and height in pixels, `own` where None; that is the model's, unless given. Raises InputError where the
    factor does not divide.
    """
    own = own or model.own_size
    sizes = (own[0] if width is None else width, own[1] if height is None else height)
    check_size(*sizes, model.codec.factor)
    return sizes


def canvas_of(recipe: ImageRecipe, width: int, height: int, factor: int) -> Canvas | None:
    """What a recipe begins with; None for noise alone. width, height: of the picture, without what `extend` adds.

    Raises InputError for files that hold no picture, a mask of another size or of one colour, and sides that the
    codec's `factor` does not divide.
    """
    if recipe.image is None:
        return None
    picture = read_image(recipe.image)
    if recipe.mask is not None:
        paint = checked_mask(read_image(recipe.mask), picture, recipe.mask)
        return Canvas(_pixels(fitted(picture, width, height)), _share(fitted(paint, width, height)))
    if recipe.extend is not None:
        return extended(fitted(picture, width, height), recipe.extend, factor)
    return Canvas(_pixels(fitted(picture, width, height)))


def extended(picture: UInt8[np.ndarray, "h w 3"], extend: str, factor: int) -> Canvas:
    """The picture with borders, which begin as its edges' colours and are painted anew."""
    borders = parse_borders(extend)
    for side, size in borders._asdict().items():
        if size:
            check_multiple(f"extend {side}", size, factor)
    pad = (borders.left, borders.right, borders.top, borders.bottom)
    height, width = picture.shape[:2]
    paint = F.pad(torch.zeros(1, 1, height, width), pad, value=1.0)
    return Canvas(F.pad(_pixels(picture), pad, mode="replicate"), paint)


def _enlarged(recipe: ImageRecipe, factor: int) -> tuple[int, int]:
    """Width and height of the recipe's picture with `factor` times as many pixels on each side."""
    height, width = read_image(str(recipe.image)).shape[:2]
    return width * factor, height * factor


def _share(mask: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 1 h w"]:
    """Grey as a share of white."""
    return (from_uint8(mask)[None].mean(dim=1, keepdim=True) + 1) / 2


def _pixels(picture: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 3 h w"]:
    return from_uint8(picture)[None]

"""What the UNet of a recipe's model sees of pictures beside its latents (`shared.models.beside`).

A picture's depth is that of `depth`, or else what the model's estimator finds in `image`. An upscaler sees `image`, one
pixel a latent, with `noise_level`'s noise; it comes from a stream of its own, `generator(seed, 1)`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from shared.artifacts.media import read_image
from shared.artifacts.pictures import checked_depth
from shared.artifacts.pixels import fitted, from_uint8, to_uint8
from shared.compute.modes import placed
from shared.diffusion.conditioning import NOTHING, Conditioning
from shared.diffusion.step_noise import Noise
from shared.images.edit import canvas_for
from shared.images.recipe import NOISE_LEVEL, ImageRecipe
from shared.models.beside import DepthEstimator, LowResolution, depth_latents
from shared.models.image_model import ImageModel
from shared.rng import generator


def seen_by(
    model: ImageModel,
    recipe: ImageRecipe,
    seeds: list[int],
    size: tuple[int, int],
    device: str | torch.device,
) -> Conditioning:
    """`beside` and `labels` for each seed, on the device. size: width and height in pixels of what is made.

    Raises InputError for a depth of another size than its picture or the same everywhere, and a level of noise that the
    model does not know.
    """
    width, height = (side // model.codec.factor for side in size)
    if isinstance(model.beside, DepthEstimator):
        depth = depth_latents(_depth(model, model.beside, recipe, device), height, width)
        return Conditioning(beside=depth.expand(len(seeds), -1, -1, -1).to(device))
    if isinstance(model.beside, LowResolution):
        small = from_uint8(fitted(read_image(str(recipe.image)), width, height))
        noise = Noise([generator(seed, 1) for seed in seeds], (3, height, width)).start("cpu")
        level = NOISE_LEVEL if recipe.noise_level is None else recipe.noise_level
        beside, labels = model.beside.noisy(small.expand_as(noise), noise, level)
        return Conditioning(beside=beside.to(device), labels=labels.to(device))
    return NOTHING


@torch.no_grad()
def _depth(
    model: ImageModel, estimator: DepthEstimator, recipe: ImageRecipe, device: str | torch.device
) -> Float[Tensor, "1 1 _ _"]:
    if recipe.depth is None:
        canvas = canvas_for(model, recipe)
        assert canvas is not None, "check_sees asks for a picture or its depth"
        with placed(recipe.memory, device, estimator.networks) as place:
            return estimator(to_uint8(canvas.pixels)[0], place)
    picture = None if recipe.image is None else read_image(recipe.image)
    checked_depth(read_image(recipe.depth), picture, recipe.depth)
    grey = canvas_for(model, recipe.model_copy(update={"image": recipe.depth, "mask": None}))
    assert grey is not None
    return grey.pixels.mean(dim=1, keepdim=True)

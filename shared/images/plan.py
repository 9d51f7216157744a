"""What a picture takes: the model is loaded and sampled from without values, by the code that makes pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from diffusers import DDIMScheduler
from torch import nn

from shared.compute.modes import compute_dtype, load_device
from shared.compute.policy import NetworkMemory
from shared.compute.quantised import saved_bytes
from shared.images.generate import generate_image
from shared.images.recipe import ImageRecipe
from shared.models.adapters.recipe import weighing
from shared.models.image_model import ImageModel, load_image_model
from shared.plan.estimate import Estimate, trace_run

TRACED_STEPS = 3  # the first, one like all others, and the last with the decoding


def plan_image(recipe: ImageRecipe, device: str = "cpu") -> Estimate:
    """Raises ModelError as `load_image_model` does, for everything but the values of the weights."""
    trace = trace_run(
        lambda: with_plain_sampler(
            load_image_model(recipe.model, seeing=True, **placement(recipe, device), **weighing(recipe))
        ),
        image_networks,
        lambda model: generate_image(model, shortened(recipe), device),
        device=device,
        saved=lambda model: saved(recipe, [model.unet, *model.encoders]),
    )
    return trace.estimate(device, repeats(recipe.steps))


def image_savings(recipe: ImageRecipe) -> Iterator[dict[str, Any]]:
    """Changes of a recipe that make it smaller, those that cost least first."""
    yield {"decode": "tiled"}
    for side in (768, 512, 256, 128, 64):
        if side < max(recipe.width or 0, recipe.height or 0):
            yield {"width": min(recipe.width or side, side), "height": min(recipe.height or side, side)}


def placement(recipe: NetworkMemory, device: str) -> dict[str, Any]:
    """Where and in what precision a command loads the networks of a recipe that runs on `device`."""
    return {"device": load_device(recipe.memory, device), "dtype": compute_dtype(recipe.memory, device)}


def saved(recipe: NetworkMemory, networks: Sequence[nn.Module]) -> int:
    """Bytes by which networks are smaller once they are quantised as the recipe says; 0 where they are offloaded, too,
    so that not all of them are there at once."""
    return saved_bytes(networks, recipe.quantization) if recipe.offload == "none" else 0


def image_networks(model: ImageModel) -> list[nn.Module]:
    """In the order in which they are loaded."""
    return [model.unet, model.codec.vae, *model.encoders, *([] if model.beside is None else model.beside.networks)]


def with_plain_sampler(model: ImageModel) -> ImageModel:
    """The model with DDIM, whose steps need no values. Other samplers keep a few more latents."""
    if model.schedule.is_flow:
        return model
    config = dict(DDIMScheduler.from_config(model.scheduler_config).config)
    return replace(model, scheduler_class=DDIMScheduler, scheduler_config=config)


def shortened(recipe: Any) -> Any:
    """The recipe with no more steps than say what all take, and without the compiler, which needs values."""
    return recipe.model_copy(update={"steps": min(recipe.steps, TRACED_STEPS), "compile": False})


def repeats(steps: int) -> list[float]:
    """How often the run does what led to each state of the shortened one."""
    return [1.0, 1.0 + max(0, steps - TRACED_STEPS), 1.0]

"""What a training stage of the core takes: its own loop, run for two steps on batches without values.

What a stage needs beside what it trains, an autoencoder or a text encoder, is taken to be as large as that of the
recipe's model, or, where a recipe names none, of the embedded one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from shared.diffusion.schedule import NoiseSchedule
from shared.models.image_model import load_image_model, load_text
from shared.models.source import resolve_model
from shared.plan.estimate import Estimate, take, trace_run
from shared.training.autoencoder import first_network, train_autoencoder
from shared.training.clip_scorer import CaptionedBatch, first_tower, train_tower
from shared.training.data.arrays import DataSize
from shared.training.image import ImageBatch, build_scheduler, first_networks, train_image
from shared.training.recipe import (
    AutoencoderTrainRecipe,
    ImageTrainRecipe,
    PictureStageRecipe,
    ScorerTrainRecipe,
    StageRecipe,
)

TRACED_STEPS = 2  # the first makes the optimiser's state, the second finds it
FAULT_AROUND = 2**16  # bytes of a mapped file that come into memory together (Linux)
T = TypeVar("T")


def plan_stage(
    recipe: StageRecipe,
    load: Callable[[], T],
    networks: Callable[[T], Sequence[nn.Module]],
    run: Callable[[T, Any], Iterable[object]],
    device: str,
) -> Estimate:
    """What a stage's loop takes. run: (what `load` gives, a recipe of a few steps) -> the loop."""
    short = recipe.model_copy(update={"steps": max(recipe.steps, TRACED_STEPS + 1)})
    trace = trace_run(
        load,
        networks,
        lambda loaded: take(iter(run(loaded, short)), TRACED_STEPS),
        device=device,
        outlives="training state",
    )
    return trace.estimate(device, [1.0, max(0.0, recipe.steps - 1.0)])


def plan_autoencoder_training(recipe: AutoencoderTrainRecipe, device: str, data: DataSize) -> Estimate:
    def run(model: Any, short: AutoencoderTrainRecipe) -> Iterator[object]:
        kept = mapped(recipe, data.pictures, 3 * recipe.size**2)
        yield from train_autoencoder(model, lambda step: pictures(recipe, device), short)
        del kept

    return plan_stage(recipe, lambda: first_network(recipe).to(device), lambda model: [model], run, device)


def plan_image_training(recipe: ImageTrainRecipe, device: str, data: DataSize) -> Estimate:
    """Raises ModelError as `load_image_model` does, for everything but the values of the weights."""

    def load() -> Any:
        codec = load_image_model(recipe.model).codec
        side = recipe.size // codec.factor
        unet, text = first_networks(recipe, recipe.model, ["a red cube"], codec.latent_channels, side)
        return codec, unet.to(device), text.text_encoder.to(device)

    def run(loaded: Any, short: ImageTrainRecipe) -> Iterator[object]:
        codec, unet, text = loaded
        side = recipe.size // codec.factor
        shape = (codec.latent_channels, side, side)
        kept = mapped(recipe, data.pictures, 2 * math.prod(shape))

        def batch_at(step: int) -> ImageBatch:
            ids = torch.zeros(recipe.batch_size, text.config.max_position_embeddings, dtype=torch.int64, device=device)
            return ImageBatch(torch.empty(recipe.batch_size, *shape, device=device), ids)

        yield from train_image(unet, text, batch_at, NoiseSchedule.from_scheduler(build_scheduler()), short)
        del kept

    return plan_stage(recipe, load, lambda loaded: [loaded[0].vae, *loaded[1:]], run, device)


def plan_scorer_training(recipe: ScorerTrainRecipe, device: str, data: DataSize) -> Estimate:
    def load() -> Any:
        text = load_text(resolve_model("world"))
        return text, first_tower(recipe, text).to(device)

    def run(loaded: Any, short: ScorerTrainRecipe) -> Iterator[object]:
        text, tower = loaded
        captions = ["a red cube"] * recipe.batch_size
        kept = mapped(recipe, data.pictures, 3 * recipe.size**2)

        def batch_at(step: int) -> CaptionedBatch:
            return CaptionedBatch(pictures(recipe, device), captions, text.features(captions).to(device))

        yield from train_tower(tower, batch_at, short)
        del kept

    return plan_stage(recipe, load, lambda loaded: [loaded[0].text_encoder, loaded[1]], run, device)


def picture_training_savings(recipe: PictureStageRecipe) -> Iterator[dict[str, Any]]:
    """Changes of a recipe that make it smaller, those that cost least first."""
    yield {"checkpointing": True}
    yield from smaller_batches(recipe)


def smaller_batches(recipe: StageRecipe) -> Iterator[dict[str, Any]]:
    """Halves of the batch, down to one sample, or two where a stage needs them."""
    least = 2 if isinstance(recipe, ScorerTrainRecipe) else 1
    size = recipe.batch_size
    while size // 2 >= least:
        size //= 2
        yield {"batch_size": size}


def pictures(recipe: PictureStageRecipe, device: str) -> Tensor:
    """A batch of them."""
    return torch.empty(recipe.batch_size, 3, recipe.size, recipe.size, device=device)


def mapped(recipe: StageRecipe, samples: int, size: int) -> Tensor:
    """What of a file of `samples` of `size` bytes comes into memory while a training draws batches from it."""
    drawn = recipe.steps * recipe.accumulate * recipe.batch_size
    return torch.empty(min(samples * size, drawn * max(size, FAULT_AROUND)), dtype=torch.uint8)

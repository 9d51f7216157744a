"""What a clip, and a training of temporal layers, takes: the code that makes and trains them, run without values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor

from shared.images.plan import image_networks, placement, repeats, saved, shortened, with_plain_sampler
from shared.models.adapters.recipe import weighing
from shared.models.image_model import ImageModel, load_image_model
from shared.models.source import resolve_model
from shared.plan.estimate import Estimate, trace_run
from shared.plan.training import mapped, plan_stage, smaller_batches
from shared.training.data.arrays import DataSize
from video.generate import VideoModel, generate_clip, load_video_model
from video.network import TemporalLayers, VideoUNet
from video.recipe import TRAINED_FRAMES, ClipRecipe, VideoTrainRecipe
from video.training.batches import Batch, StillBatch
from video.training.stage import first_layers, train_video

# The image network of Stable Diffusion 1.5, whose other settings are diffusers' defaults.
STABLE_DIFFUSION_1 = {"sample_size": 64, "cross_attention_dim": 768}


def plan_clip(recipe: ClipRecipe, device: str = "cpu") -> Estimate:
    """Raises ModelError as `load_video_model` does, for everything but the values of the weights."""

    def load() -> VideoModel:
        model = load_video_model(recipe.model, **placement(recipe, device), **weighing(recipe))
        return replace(model, image=with_plain_sampler(model.image))

    trace = trace_run(
        load,
        lambda model: [model.network.temporal, *image_networks(model.image)],
        lambda model: generate_clip(model, shortened(recipe), device),
        device=device,
        saved=lambda model: saved(recipe, [model.network, *model.image.encoders]),
    )
    return trace.estimate(device, repeats(recipe.steps))


def clip_savings(recipe: ClipRecipe) -> Iterator[dict[str, Any]]:
    """Changes of a recipe that make it smaller, those that cost least first."""
    for frames in (8, 4, 1):
        if frames < recipe.frame_count:
            yield {"decode": "sliced", "decode_frames": frames}
    for window in (TRAINED_FRAMES, TRAINED_FRAMES // 2):
        if window < recipe.frame_count:
            yield {"window": window}
    yield {"decode": "tiled", "decode_frames": 1}
    for side in (512, 384, 256, 128, 64):
        if side < max(recipe.width or 0, recipe.height or 0):
            yield {"width": min(recipe.width or side, side), "height": min(recipe.height or side, side)}
    for frames in (TRAINED_FRAMES, TRAINED_FRAMES // 2):
        if frames < recipe.frame_count:
            yield {"frames": frames}


@dataclass(frozen=True)
class _Stage:
    """What a training of temporal layers is made from."""

    model: ImageModel
    network: VideoUNet


def plan_video_training(recipe: VideoTrainRecipe, device: str, data: DataSize) -> Estimate:
    """Every caption of `data`'s clips stays in memory, and of the latents what is drawn.

    Raises ModelError as `load_image_model` does, for everything but the values of the weights.
    """

    def load() -> _Stage:
        model = load_image_model(recipe.model, device=device)
        temporal = first_layers(recipe, model, resolve_model(recipe.model), cameras=recipe.views_share > 0).to(device)
        return _Stage(model, VideoUNet(model.unet, temporal))

    def run(stage: _Stage, short: VideoTrainRecipe) -> Iterator[object]:
        side = stage.model.default_size // stage.model.codec.factor
        channels = stage.model.codec.latent_channels
        text = stage.model.text
        width = text.text_encoder.config.hidden_size
        captions = torch.empty(data.captions, text.max_length, width, dtype=torch.half)
        latents = mapped(recipe, data.clips, 2 * recipe.clip_frames * channels * side**2)
        of_stills = recipe.model_copy(update={"batch_size": recipe.stills if recipe.image_learning_rate else 0})
        stills = mapped(of_stills, data.pictures, 2 * channels * side**2)

        def tokens(samples: int) -> Float[Tensor, "b n d"]:
            return torch.empty(samples, text.max_length, width, device=device)

        def batch_at(step: int) -> Batch:
            latents = torch.empty(recipe.batch_size, channels, recipe.frames, side, side, device=device)
            given = torch.zeros(recipe.batch_size, recipe.frames, dtype=torch.bool, device=device)
            return Batch(latents, tokens(recipe.batch_size), given=given if recipe.known_share else None)

        def stills_at(step: int) -> StillBatch:
            return StillBatch(torch.empty(recipe.stills, channels, side, side, device=device), tokens(recipe.stills))

        schedule, kind = stage.model.schedule, stage.model.prediction_type
        yield from train_video(stage.network, batch_at, schedule, short, stills_at=stills_at, prediction_type=kind)
        del captions, latents, stills

    return plan_stage(recipe, load, lambda stage: [*image_networks(stage.model), stage.network.temporal], run, device)


def video_training_savings(recipe: VideoTrainRecipe) -> Iterator[dict[str, Any]]:
    """Changes of a recipe that make it smaller, those that cost least first."""
    yield {"checkpointing": True}
    yield from smaller_batches(recipe)
    if recipe.frames > TRAINED_FRAMES // 2:
        yield {"frames": TRAINED_FRAMES // 2}


def plan_forward(
    unet_config: dict[str, Any], *, frames: int, side: int, tokens: int, batch: int = 1, device: str = "cpu"
) -> Estimate:
    """One forward pass of an image UNet of a given configuration with new temporal layers, without gradients.

    side: of the latents. tokens: of a prompt. Nothing is read or fetched: this is how to ask about networks that are
    not here.
    """

    def run(network: VideoUNet) -> Iterator[object]:
        x_t, t, prompt = forward_inputs(unet_config, frames=frames, side=side, tokens=tokens, batch=batch)
        with torch.no_grad():
            yield network(x_t.to(device), t.to(device), prompt.to(device))

    trace = trace_run(
        lambda: build_video_network(unet_config).to(device), lambda network: [network], run, device=device, files=False
    )
    return trace.estimate(device, [])


def forward_inputs(
    unet_config: dict[str, Any], *, frames: int, side: int, tokens: int, batch: int = 1
) -> tuple[Float[Tensor, "b c t h w"], Int[Tensor, " b"], Float[Tensor, "b n d"]]:
    """Latents, timesteps and prompt tokens for a video network of this configuration."""
    x_t = torch.zeros(batch, unet_config.get("in_channels", 4), frames, side, side)
    return x_t, torch.zeros(batch, dtype=torch.int64), torch.zeros(batch, tokens, unet_config["cross_attention_dim"])


def build_video_network(unet_config: dict[str, Any]) -> VideoUNet:
    """A UNet of this configuration and temporal layers for it, with first weights."""
    unet = UNet2DConditionModel(**unet_config).requires_grad_(False)
    return VideoUNet(unet, TemporalLayers.for_unet(unet)).eval()

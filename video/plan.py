"""What a clip, and a training of temporal layers, takes: the code that makes and trains them, run without values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor

from shared.model import ImageModel, load_image_model, resolve_model
from shared.plan.estimate import Estimate, follow, take
from shared.plan.image import image_networks, placement, repeats, shortened, with_plain_sampler
from video.folder import load_temporal
from video.generate import VideoModel, generate_clip, load_video_model
from video.network import TemporalLayers, VideoUNet
from video.recipe import TRAINED_FRAMES, ClipRecipe, VideoTrainRecipe
from video.training import Batch, train_video

# The image network of Stable Diffusion 1.5, whose other settings are diffusers' defaults.
STABLE_DIFFUSION_1 = {"sample_size": 64, "cross_attention_dim": 768}
TRACED_TRAINING_STEPS = 2  # the first makes the optimiser's state, the second finds it


def plan_clip(recipe: ClipRecipe, device: str = "cpu") -> Estimate:
    """Raises ModelError as `load_video_model` does, for everything but the values of the weights."""

    def load() -> VideoModel:
        model = load_video_model(recipe.model, **placement(recipe, device))
        return replace(model, image=with_plain_sampler(model.image))

    trace = follow(
        load,
        lambda model: [model.network.temporal, *image_networks(model.image)],
        lambda model: generate_clip(model, shortened(recipe), device),
        device=device,
    )
    return trace.estimate(device, repeats(recipe.steps))


def clip_savings(recipe: ClipRecipe) -> Iterator[dict[str, Any]]:
    """Changes of a recipe that make it smaller, those that cost least first."""
    for frames in (8, 4, 1):
        if frames < recipe.frames:
            yield {"decode": "sliced", "decode_frames": frames}
    for window in (TRAINED_FRAMES, TRAINED_FRAMES // 2):
        if window < recipe.frames:
            yield {"window": window}
    yield {"decode": "tiled", "decode_frames": 1}
    for side in (512, 384, 256, 128, 64):
        if side < max(recipe.width or 0, recipe.height or 0):
            yield {"width": min(recipe.width or side, side), "height": min(recipe.height or side, side)}
    for frames in (TRAINED_FRAMES, TRAINED_FRAMES // 2):
        if frames < recipe.frames:
            yield {"frames": frames}


@dataclass(frozen=True)
class _Stage:
    """What a training of temporal layers is made from."""

    model: ImageModel
    network: VideoUNet


def plan_video_training(recipe: VideoTrainRecipe, device: str = "cpu", *, clips: int = 0) -> Estimate:
    """clips: how many there are to train on; their latents and captions stay in memory.

    Raises ModelError as `load_image_model` does, for everything but the values of the weights.
    """

    def load() -> _Stage:
        model = load_image_model(recipe.model, device=device)
        if recipe.start == "continue":
            temporal = load_temporal(resolve_model(recipe.model), device=device)
        else:
            temporal = TemporalLayers.for_unet(
                model.unet, embed_dim=recipe.embed_dim, head_dim=recipe.head_dim, noise_share=recipe.noise_share
            ).to(device)
        return _Stage(model, VideoUNet(model.unet, temporal))

    def run(stage: _Stage) -> Iterator[object]:
        side = stage.model.default_size // stage.model.codec.factor
        shape = (stage.model.codec.latent_channels, recipe.frames, side, side)
        text = stage.model.text
        width = text.text_encoder.config.hidden_size
        kept = [torch.empty(clips, *shape, dtype=torch.half), torch.empty(clips, text.max_length, width).half()]

        def batch_at(step: int) -> Batch:
            size = recipe.batch_size
            return torch.empty(size, *shape, device=device), torch.empty(size, text.max_length, width, device=device)

        short = recipe.model_copy(update={"steps": max(recipe.steps, TRACED_TRAINING_STEPS + 1)})
        states = train_video(
            stage.network, batch_at, stage.model.schedule, short, prediction_type=stage.model.prediction_type
        )
        yield from take(states, TRACED_TRAINING_STEPS)
        del kept

    trace = follow(
        load,
        lambda stage: [*image_networks(stage.model), stage.network.temporal],
        run,
        device=device,
        outlives="training state",
    )
    return trace.estimate(device, [1.0, max(0.0, recipe.steps - 1.0)])


def video_training_savings(recipe: VideoTrainRecipe) -> Iterator[dict[str, Any]]:
    """Changes of a recipe that make it smaller, those that cost least first."""
    yield {"checkpointing": True}
    size = recipe.batch_size
    while size > 1:
        size //= 2
        yield {"batch_size": size}
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

    trace = follow(
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
    unet = UNet2DConditionModel(**unet_config)
    return VideoUNet(unet, TemporalLayers.for_unet(unet)).eval()

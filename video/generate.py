"""Clips from prompts: load a video model, run the sampler, decode.

x0 latents `b c t h w`; frames uint8 `t height width 3`. Clip i's noise is drawn from its recipe's seed alone, so a clip
is the same alone and in a batch, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import SchedulerMixin
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from shared.codec import Codec
from shared.denoiser import Denoiser
from shared.errors import InputError
from shared.model import ImageModel, load_image_model, resolve_model
from shared.pixels import to_uint8
from shared.sampling import sample
from video.folder import load_temporal
from video.network import VideoUNet
from video.noise import mixed_noise
from video.recipe import ClipRecipe

SHARED_BY_A_BATCH = ("model", "frames", "width", "height", "steps", "guidance_scale", "guidance_rescale")


@dataclass(frozen=True)
class VideoModel:
    """An image model and the video network built on it. `denoiser` takes latents "b c t h w"."""

    image: ImageModel
    network: VideoUNet

    @property
    def denoiser(self) -> Denoiser:
        return Denoiser(self.network, self.image.schedule, self.image.denoiser.prediction_type)


@dataclass(frozen=True)
class ClipState:
    """`step` of `total` sampling steps are done. `frames` come with the last state and are None before."""

    step: int
    total: int
    latents: Float[Tensor, "b c t h w"]
    frames: UInt8[np.ndarray, "b t height width 3"] | None


def load_video_model(
    source: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> VideoModel:
    """The video model in a folder ("world" is the embedded one).

    Raises ModelError: no such folder, no temporal layers in it, weights that are corrupt or do not fit.
    """
    temporal = load_temporal(resolve_model(source), device=device, dtype=dtype)
    image = load_image_model(source, device=device, dtype=dtype)
    return VideoModel(image, VideoUNet(image.unet, temporal).eval())


def generate_clip(model: VideoModel, recipe: ClipRecipe) -> Iterator[ClipState]:
    """One clip, as a batch of one; yields after every sampling step. See `generate_clips`."""
    return generate_clips(model, [recipe])


def generate_clips(model: VideoModel, recipes: Sequence[ClipRecipe]) -> Iterator[ClipState]:
    """Clips in one batch; yields after every sampling step, the last time with frames.

    Recipes of a batch differ in prompt, negative, seed and fps alone. Raises InputError where they differ in more, and
    for sizes that are not a multiple of the codec's factor.
    """
    if not recipes:
        raise InputError("clips", expected="at least one recipe", got="none")
    first = recipes[0]
    for name in SHARED_BY_A_BATCH:
        values = {getattr(recipe, name) for recipe in recipes}
        if len(values) > 1:
            raise InputError(f"{name} in one batch of clips", expected="one value", got=sorted(values, key=str))
    image = model.image
    return sample_clips(
        model.denoiser,
        image.codec,
        image.make_scheduler(),
        cond=image.text.encode([recipe.prompt for recipe in recipes]),
        uncond=image.text.encode([recipe.negative for recipe in recipes]),
        seeds=[recipe.seed for recipe in recipes],
        frames=first.frames,
        height=first.height or image.default_size,
        width=first.width or image.default_size,
        steps=first.steps,
        guidance_scale=first.guidance_scale,
        guidance_rescale=first.guidance_rescale,
        noise_share=model.network.temporal.noise_share,
    )


@torch.no_grad()
def sample_clips(
    denoiser: Denoiser,
    codec: Codec,
    scheduler: SchedulerMixin,
    *,
    cond: Float[Tensor, "b n d"],
    uncond: Float[Tensor, "b n d"],
    seeds: Sequence[int],
    frames: int,
    height: int,
    width: int,
    steps: int,
    guidance_scale: float,
    guidance_rescale: float,
    noise_share: float,
) -> Iterator[ClipState]:
    """Denoise all frames of each clip together, then decode them. `height` and `width` are in pixels.

    noise_share: that of the temporal layers.
    """
    for name, size in (("height", height), ("width", width)):
        if size < codec.factor or size % codec.factor:
            raise InputError(name, expected=f"a multiple of {codec.factor} pixels", got=size)
    states = sample(
        denoiser,
        scheduler,
        shape=(codec.latent_channels, frames, height // codec.factor, width // codec.factor),
        seeds=list(seeds),
        cond=cond,
        uncond=uncond,
        guidance_scale=guidance_scale,
        rescale=guidance_rescale,
        steps=steps,
        draw_noise=partial(mixed_noise, share=noise_share),
    )
    for state in states:
        last = state.step == state.total
        yield ClipState(state.step, state.total, state.latents, decode_frames(codec, state.latents) if last else None)


def decode_frames(codec: Codec, latents: Float[Tensor, "b c t h w"]) -> UInt8[np.ndarray, "b t height width 3"]:
    """The pixels of latents, eight bits a channel."""
    return to_uint8(rearrange(codec.decode(latents), "b c t h w -> b t c h w"))

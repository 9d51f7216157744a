"""Clips from prompts: load a video model, run the sampler, decode; in the memory that the recipe's policy gives.

x0 latents `b c t h w`; frames uint8 `t height width 3`. Clip i's noise is drawn from its recipe's seed alone, so a clip
is the same alone and in a batch, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import SchedulerMixin
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from shared.artifacts.pixels import to_uint8
from shared.compute.execution import execution_device
from shared.compute.modes import applied, placed, run_alike
from shared.compute.policy import MemoryPolicy
from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.guidance import guided_by
from shared.diffusion.sampling import SampleState, sample
from shared.diffusion.schedule import NoiseSchedule
from shared.diffusion.schedulers import named_scheduler
from shared.errors import InputError
from shared.latents.codec import Codec
from shared.latents.decoding import decode_by_parts
from shared.latents.sizes import check_size
from shared.models.adapters.layers import TEMPORAL, UNET
from shared.models.adapters.lora import fuse_loras
from shared.models.image_model import ImageModel, load_image_model
from shared.models.source import resolve_model
from video.clip_network import FramesAlone
from video.folder import load_temporal
from video.frames.given import Given, given_by, known_of, put_back
from video.frames.noise import mixed_noise
from video.frames.windows import windowed
from video.motion.adapter import load_motion_adapter
from video.motion.network import MotionUNet
from video.network import VideoUNet
from video.recipe import ClipRecipe

OWN = ("prompt", "negative", "seed", "fps")  # what recipes of one batch may differ in


@dataclass(frozen=True)
class VideoModel:
    """An image model and the video network built on it. `denoiser` takes latents "b c t h w"."""

    image: ImageModel
    network: VideoUNet | MotionUNet

    @property
    def denoiser(self) -> Denoiser:
        return Denoiser(self.network, self.image.schedule, self.image.denoiser.prediction_type)


@dataclass(frozen=True)
class ClipState(SampleState):
    """A `SampleState`; `frames` come with the last one and are None before."""

    frames: UInt8[np.ndarray, "b t height width 3"] | None = None


def load_video_model(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    lora: Sequence[str] = (),
    embeddings: Sequence[str] = (),
    motion_adapter: Sequence[str] = (),
    **parts: Sequence[str],
) -> VideoModel:
    """The video model in a folder ("world" is the embedded one). lora: of all its networks. embeddings and parts: of
    its image model. motion_adapter: a file of motion modules in place of temporal layers; the model may be any image
    model then.

    Raises ModelError: no such folder, no temporal layers in it, weights that are corrupt or do not fit.
    """

    def load_image() -> ImageModel:
        return load_image_model(source, device=device, dtype=dtype, seeing=False, embeddings=embeddings, **parts)

    def fused(image: ImageModel, part: str, network: nn.Module) -> tuple[str, ...]:
        return tuple(fuse_loras(image.name, image.unet, image.encoders, lora, beside={part: network}))

    for file in motion_adapter:
        image = load_image()
        adapter, notes = load_motion_adapter(file, image.unet, image.name, device=device, dtype=dtype)
        image = replace(image, notes=(*notes, *fused(image, UNET, adapter)))
        return VideoModel(on_motion_schedule(image), MotionUNet(image.unet, adapter).eval())
    temporal = load_temporal(resolve_model(source), device=device, dtype=dtype)
    image = load_image()
    image = replace(image, notes=fused(image, TEMPORAL, temporal))
    return VideoModel(image, VideoUNet(image.unet, temporal).eval())


def on_motion_schedule(image: ImageModel) -> ImageModel:
    """The model with the noise schedule that motion modules are trained on: its own, but with betas that rise evenly
    (Guo et al. 2023, section 5.1), where those of Stable Diffusion rise with the square."""
    if image.scheduler_config.get("beta_schedule") != "scaled_linear":
        return image
    moved = replace(image, scheduler_config={**image.scheduler_config, "beta_schedule": "linear"})
    return replace(moved, schedule=NoiseSchedule.from_scheduler(moved.make_scheduler()).to(image.device))


def generate_clip(
    model: VideoModel, recipe: ClipRecipe, device: str | torch.device | None = None
) -> Iterator[ClipState]:
    """One clip, as a batch of one; yields after every sampling step. See `generate_clips`."""
    return generate_clips(model, [recipe], device)


def generate_clips(
    model: VideoModel,
    recipes: Sequence[ClipRecipe],
    device: str | torch.device | None = None,
    *,
    given: Given | None = None,
) -> Iterator[ClipState]:
    """Clips in one batch; yields after every sampling step, the last time with frames.

    Recipes of a batch differ in prompt, negative, seed and fps alone. device: where to compute; where the model is,
    unless given. given: pictures that are frames of every clip, by number, in place of those that recipes name.
    Raises InputError where recipes differ in more, and for sizes that are not a multiple of the codec's factor;
    ModelError for given frames where the model was not trained to know any; KinoformError when memory does not suffice
    to decode.
    """
    for state in sample_latents(model, recipes, device, given=given):
        last = state.step == state.total
        frames = decode_clips(model.image, state.latents, recipes[0].memory, device) if last else None
        yield ClipState(state.step, state.total, state.latents, state.x0, frames)


@torch.no_grad()
def sample_latents(
    model: VideoModel,
    recipes: Sequence[ClipRecipe],
    device: str | torch.device | None = None,
    *,
    given: Given | None = None,
) -> Iterator[SampleState]:
    """`generate_clips` up to the latents "b c t h w", which `decode_clips` makes frames of."""
    if not recipes:
        raise InputError("clips", expected="at least one recipe", got="none")
    first = recipes[0]
    for name in (name for name in ClipRecipe.model_fields if name not in OWN):
        values = {getattr(recipe, name) for recipe in recipes}
        if len(values) > 1:
            raise InputError(f"{name} in one batch of clips", expected="one value", got=sorted(values, key=str))
    image = model.image
    place = execution_device(model.network) if device is None else device
    height = image.own_size[1] if first.height is None else first.height
    width = image.own_size[0] if first.width is None else first.width
    latent_shape(image.codec, first.frame_count, height, width)  # a wrong size is told before any work
    known = None
    if pictures := given_by(first) if given is None else given:
        with placed(first.memory, place, [image.codec.vae]) as there:
            size = {"frames": first.frame_count, "height": height, "width": width}
            known = known_of(image.codec, pictures, **size, device=there).to(place)
    with applied(first.memory, place, model.denoiser, before=image.encoders) as denoiser:
        conditioning, negative = (
            image.conditions(texts, (width, height))
            for texts in ([recipe.prompt for recipe in recipes], [recipe.negative for recipe in recipes])
        )
        if known is not None:
            told = known.expand(len(recipes), *known.shape[1:])
            conditioning, negative = (each.with_frames(known=told) for each in (conditioning, negative))
        alone, scale = None, first.temporal_guidance_scale
        if scale != 1:
            alone = windowed(run_alike(denoiser, FramesAlone(image.unet)), first.window)
        for state in sample_clips(
            guided_by(first, windowed(denoiser, first.window), negative, weak=alone, weak_scale=scale),
            image.codec,
            named_scheduler(first.scheduler, image.make_scheduler()),
            conditioning=conditioning,
            seeds=[recipe.seed for recipe in recipes],
            frames=first.frame_count,
            height=height,
            width=width,
            steps=first.steps,
            noise_share=model.network.noise_share,
        ):
            if known is not None and state.step == state.total:
                state = replace(state, latents=put_back(state.latents, known))
            yield state


def sample_clips(
    denoiser: Denoiser,
    codec: Codec,
    scheduler: SchedulerMixin,
    *,
    conditioning: Conditioning,
    seeds: Sequence[int],
    frames: int,
    height: int,
    width: int,
    steps: int,
    noise_share: float,
) -> Iterator[SampleState]:
    """Denoise all frames of each clip together. `height` and `width` are in pixels.

    noise_share: that of the temporal layers.
    """
    return sample(
        denoiser,
        scheduler,
        shape=latent_shape(codec, frames, height, width),
        seeds=list(seeds),
        conditioning=conditioning,
        steps=steps,
        draw_noise=partial(mixed_noise, share=noise_share),
    )


def latent_shape(codec: Codec, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(c, t, h, w) of a clip in pixels. Raises InputError for sizes that are not a multiple of the codec's factor, and
    for a clip of no frames."""
    if frames < 1:
        raise InputError("frames", expected="1 or more", got=frames)
    check_size(width, height, codec.factor)
    return codec.latent_channels, frames, height // codec.factor, width // codec.factor


def decode_clips(
    image: ImageModel,
    latents: Float[Tensor, "b c t h w"],
    policy: MemoryPolicy,
    device: str | torch.device | None = None,
) -> UInt8[np.ndarray, "b t height width 3"]:
    """The frames of latents: a few at a time become pixels and then bytes, which bounds memory.

    Raises KinoformError when it does not suffice even for small tiles, of one frame or, where the decoder looks across
    frames, of all of them.
    """
    vae = image.codec.vae
    with placed(policy, execution_device(vae) if device is None else device, [vae]) as place:
        return decode_frames(image.codec, latents.to(place), policy)


def decode_frames(
    codec: Codec, latents: Float[Tensor, "b c t h w"], policy: MemoryPolicy
) -> UInt8[np.ndarray, "b t height width 3"]:
    """`decode_clips` where the codec is."""
    frames = np.concatenate([to_uint8(part.pixels) for part in decode_by_parts(codec, latents, policy)])
    return rearrange(frames, "(b t) h w c -> b t h w c", b=len(latents))

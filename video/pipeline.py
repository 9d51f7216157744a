"""A diffusers pipeline for clips: stock components of an image model, and temporal layers between the UNet's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from diffusers.utils import BaseOutput
from jaxtyping import Float, UInt8
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from shared.attention import install_attention
from shared.codec import Autoencoder, Codec
from shared.denoiser import Denoiser
from shared.errors import InputError
from shared.memory import MemoryPolicy
from shared.schedule import NoiseSchedule
from shared.text import TextConditioner
from video.generate import decode_frames, sample_clips
from video.network import TemporalLayers, VideoUNet
from video.recipe import TRAINED_FRAMES
from video.windows import windowed


@dataclass
class VideoLDMPipelineOutput(BaseOutput):
    """frames: uint8 "b t height width 3", or latents "b c t h w" with output_type "latent"."""

    frames: UInt8[np.ndarray, "b t height width 3"] | Float[Tensor, "b c t h w"]


class VideoLDMPipeline(DiffusionPipeline):
    """Text to video with a video latent diffusion model (Blattmann et al. 2023).

    `from_pretrained` and `save_pretrained` are diffusers' own, on a folder that stock
    `StableDiffusionPipeline.from_pretrained` loads as an image model. An image model's folder becomes a video pipeline
    by handing in the missing part: `from_pretrained(folder, temporal=TemporalLayers.for_unet(unet))`.
    """

    model_cpu_offload_seq = "text_encoder->unet->temporal->vae"

    def __init__(
        self,
        vae: Autoencoder,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        temporal: TemporalLayers,
        scheduler: SchedulerMixin,
    ) -> None:
        super().__init__()
        VideoUNet(unet, temporal)  # raises ModelError when the two do not fit
        for network in (unet, vae, text_encoder):
            install_attention(network)
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, temporal=temporal, scheduler=scheduler
        )

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str = "",
        *,
        frames: int = TRAINED_FRAMES,
        window: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 5.0,
        guidance_rescale: float = 0.5,
        seeds: int | Sequence[int] = 0,
        output_type: str = "np",
    ) -> VideoLDMPipelineOutput:
        """One clip a prompt. window: frames that the network sees at a time; all where not given.
        height, width: pixels, the model's own where not given. seeds: one a prompt, or one.

        Raises InputError for sizes that are not a multiple of the codec's factor, for a number of seeds that is not the
        number of prompts, and for an output_type other than "np" and "latent".
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        seeds = [seeds] * len(prompts) if isinstance(seeds, int) else list(seeds)
        if len(seeds) != len(prompts):
            raise InputError("seeds", expected=f"one, or one for each of {len(prompts)} prompts", got=len(seeds))
        if output_type not in ("np", "latent"):
            raise InputError("output_type", expected="np or latent", got=output_type)
        codec, text = Codec(self.vae), TextConditioner(self.tokenizer, self.text_encoder)
        own_size = self.unet.config["sample_size"] * codec.factor
        schedule = NoiseSchedule.from_scheduler(self.scheduler)
        prediction_type = "flow" if schedule.is_flow else self.scheduler.config["prediction_type"]
        states = sample_clips(
            windowed(Denoiser(VideoUNet(self.unet, self.temporal), schedule, prediction_type), window),
            codec,
            self.scheduler,
            cond=text.encode(prompts),
            uncond=text.encode([negative_prompt] * len(prompts)),
            seeds=seeds,
            frames=frames,
            height=height or own_size,
            width=width or own_size,
            steps=num_inference_steps,
            guidance_scale=guidance_scale,
            guidance_rescale=guidance_rescale,
            noise_share=self.temporal.noise_share,
        )
        with self.progress_bar(total=num_inference_steps) as bar:
            for state in states:
                bar.update()
                latents = state.latents
        return VideoLDMPipelineOutput(
            latents if output_type == "latent" else decode_frames(codec, latents, MemoryPolicy())
        )

"""A diffusers pipeline for clips: stock components of an image model, and temporal layers between the UNet's blocks.

Arguments, properties, outputs and callbacks have the names and meanings of diffusers' text-to-video pipelines; `seeds`
and `window` are what it has beside them. The components stay as they are handed in, so that another pipeline may share
them: while it runs, torch's attention call in them is answered by `attend`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from diffusers.utils import BaseOutput
from diffusers.video_processor import VideoProcessor
from jaxtyping import Float, Integer
from PIL.Image import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from shared.attention.routing.route import Route
from shared.attention.routing.torch_call import ThroughAttend
from shared.compute.modes import run_alike
from shared.compute.policy import MemoryPolicy
from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser, Prediction
from shared.diffusion.guidance import guided
from shared.diffusion.sampling import denoise
from shared.diffusion.schedule import NoiseSchedule, prediction_type_of
from shared.diffusion.schedulers import check_sampler, set_steps
from shared.diffusion.step_noise import Noise
from shared.errors import InputError
from shared.latents.codec import Autoencoder, Codec
from shared.latents.decoding import decode
from shared.models.image_model import own_size
from shared.models.prompts.text import TextConditioner
from video.clip_network import FramesAlone
from video.frames.given import known_of, put_back
from video.frames.noise import mixed_noise
from video.frames.windows import windowed
from video.generate import latent_shape
from video.network import TemporalLayers, VideoUNet, check_fit
from video.pipeline_inputs import CALLBACK_TENSORS, Picture, check_call, generators_for, given_frames, texts_of
from video.recipe import TRAINED_FRAMES

STOCK = "StableDiffusionPipeline"
ABSENT = ("safety_checker", "feature_extractor", "image_encoder")  # components of the stock class that we have not


@dataclass
class VideoLDMPipelineOutput(BaseOutput):
    """frames: by output_type. "np": "b t height width 3" and "pt": "b t 3 height width", in [0, 1]; "pil": a list of
    pictures for each clip; "latent": "b c t h w"."""

    frames: Float[np.ndarray, "b t height width 3"] | Float[Tensor, "b ..."] | list[list[Image]]


class VideoLDMPipeline(DiffusionPipeline):
    """Text to video with a video latent diffusion model (Blattmann et al. 2023).

    `from_pretrained` is diffusers' own, on a folder that `DiffusionPipeline.from_pretrained` and stock
    `StableDiffusionPipeline.from_pretrained` load as an image model; `save_pretrained` writes such a folder. An image
    model's folder becomes a video pipeline by handing in the missing part:
    `from_pretrained(folder, temporal=TemporalLayers.for_unet(unet))`. A component that is not needed may be None: the
    text encoder and tokenizer with `prompt_embeds`, the rest for `encode_prompt` alone.
    """

    # `temporal` runs inside `unet`: it comes to the device by itself, and does not send the UNet away.
    model_cpu_offload_seq = "text_encoder->unet->vae"
    _callback_tensor_inputs: ClassVar[list[str]] = list(CALLBACK_TENSORS)
    _guidance_scale = 1.0
    _num_timesteps = 0
    _interrupt = False

    def __init__(
        self,
        vae: Autoencoder | None,
        text_encoder: CLIPTextModel | None,
        tokenizer: CLIPTokenizer | None,
        unet: UNet2DConditionModel | None,
        temporal: TemporalLayers | None,
        scheduler: SchedulerMixin | None,
    ) -> None:
        super().__init__()
        if unet is not None and temporal is not None:
            check_fit(unet, temporal)
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, temporal=temporal, scheduler=scheduler
        )

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale != 1

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Set `_interrupt` in a callback to end the call after that step, with what there is by then."""
        return self._interrupt

    @torch.no_grad()
    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None = None,
        num_videos_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Float[Tensor, "p n d"] | None = None,
        negative_prompt_embeds: Float[Tensor, "p n d"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"] | None]:
        """Conditioning and negative conditioning of every clip, those of a prompt next to each other.

        Embeddings that are given stand for their prompts. Without guidance there are no negative ones.
        Raises InputError for prompts and embeddings that do not go together.
        """
        prompts, negatives = texts_of(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        place = self._execution_device
        embeds = self._encoded(prompts) if prompt_embeds is None else prompt_embeds
        if do_classifier_free_guidance:
            negative_prompt_embeds = (
                self._encoded(negatives) if negative_prompt_embeds is None else negative_prompt_embeds
            )
            if negative_prompt_embeds.shape != embeds.shape:
                raise InputError(
                    "negative_prompt_embeds", expected=tuple(embeds.shape), got=tuple(negative_prompt_embeds.shape)
                )
        else:
            negative_prompt_embeds = None
        cond, uncond = (
            None if each is None else each.to(place).repeat_interleave(num_videos_per_prompt, dim=0)
            for each in (embeds, negative_prompt_embeds)
        )
        assert cond is not None
        return cond, uncond

    def _encoded(self, prompts: list[str]) -> Float[Tensor, "p n d"]:
        if self.tokenizer is None or self.text_encoder is None:
            raise InputError(
                "prompt",
                expected="prompt_embeds (with guidance negative ones too) in a pipeline without a text encoder",
                got=prompts,
            )
        with ThroughAttend(Route()):
            return TextConditioner(self.tokenizer, self.text_encoder).encode(prompts)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        *,
        image: Picture | None = None,
        last_image: Picture | None = None,
        num_frames: int = TRAINED_FRAMES,
        window: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 14,
        guidance_scale: float = 5.0,
        guidance_rescale: float = 0.5,
        temporal_guidance_scale: float = 2.0,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        seeds: int | np.integer | Sequence[int | np.integer] | Integer[np.ndarray, " p"] | None = None,
        latents: Float[Tensor, "b c t h w"] | None = None,
        prompt_embeds: Float[Tensor, "p n d"] | None = None,
        negative_prompt_embeds: Float[Tensor, "p n d"] | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> VideoLDMPipelineOutput | tuple[Any]:
        """`num_videos_per_prompt` clips of each prompt; those of a prompt follow each other.

        negative_prompt: one for all prompts, or one each. image, last_image: what every clip begins and ends with, of
        which the middle is taken, in the clip's shape. window: frames that the network sees at a time; all where not
        given. height, width: pixels, the model's own where not given. guidance_scale: 1 is none.
        temporal_guidance_scale: how far away from what frames would be alone; 1 is not at all, and faster.
        generator: one a clip, or one that all clips draw from in turn. seeds: in its place, one for all prompts or one
        each; the further clips of a prompt have the numbers after it. A seed gives the clip that `generate_clip` gives.
        With neither the seed is 0. latents: standard normal noise to start from.
        callback_on_step_end: (pipeline, step, timestep, tensors) after every step, with the tensors that
        `callback_on_step_end_tensor_inputs` names; those in the dict that it returns take their places.
        return_dict: False gives a tuple of the frames alone.

        Raises InputError for whatever of these is wrong or does not go together.
        """
        check_call(num_frames, num_videos_per_prompt, output_type, window, callback_on_step_end_tensor_inputs)
        self._guidance_scale, self._interrupt = guidance_scale, False
        cond, uncond = self.encode_prompt(
            prompt,
            num_videos_per_prompt,
            self.do_classifier_free_guidance,
            negative_prompt,
            prompt_embeds,
            negative_prompt_embeds,
        )
        codec, place = Codec(self.vae), self._execution_device
        own_width, own_height = own_size(self.unet, codec)
        shape = latent_shape(
            codec, num_frames, own_height if height is None else height, own_width if width is None else width
        )
        draw = partial(mixed_noise, share=self.temporal.noise_share)
        noise = Noise(generators_for(len(cond), num_videos_per_prompt, generator, seeds), shape, draw)
        if latents is not None and tuple(latents.shape) != (len(cond), *shape):
            raise InputError("latents", expected=(len(cond), *shape), got=tuple(latents.shape))
        start = noise.start(place) if latents is None else latents.to(place, torch.float32)
        given = given_frames(num_frames, image, last_image)
        said = {}
        if given:
            pixels = {"height": shape[2] * codec.factor, "width": shape[3] * codec.factor}
            known = known_of(codec, given, frames=num_frames, **pixels, device=place)
            said["known"] = known.expand(len(cond), *known.shape[1:])

        schedule = NoiseSchedule.from_scheduler(self.scheduler)
        check_sampler(self.scheduler, schedule)
        network = Denoiser(VideoUNet(self.unet, self.temporal), schedule, prediction_type_of(self.scheduler))
        denoiser = windowed(network, window)
        alone = None
        if temporal_guidance_scale != 1:
            alone = windowed(run_alike(network, FramesAlone(self.unet)), window)
        timesteps = set_steps(self.scheduler, num_inference_steps, place)
        self._num_timesteps = len(timesteps)

        def predict(x_t: Tensor, t: Tensor) -> Prediction:  # a callback may have changed any of these
            condition, negative = (Conditioning(each, frames=said) for each in (cond, uncond))
            steered = guided(
                denoiser, negative, self.guidance_scale, rescale=guidance_rescale,
                weak=alone, weak_scale=temporal_guidance_scale,
            )  # fmt: skip
            return steered(x_t, t, condition)

        states = denoise(predict, self.scheduler, timesteps, noise, start)
        with self.progress_bar(total=len(timesteps)) as bar, ThroughAttend(Route()):
            state = next(states)
            while True:
                x_t = state.latents
                if callback_on_step_end is not None:
                    tensors = {"latents": x_t, "prompt_embeds": cond, "negative_prompt_embeds": uncond}
                    wanted = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    changed = callback_on_step_end(self, state.step - 1, timesteps[state.step - 1], wanted) or {}
                    x_t, cond, uncond = ({**tensors, **changed}[name] for name in CALLBACK_TENSORS)
                bar.update()
                if self.interrupt or state.step == state.total:
                    break
                state = states.send(x_t)
            if given:
                x_t = put_back(x_t, said["known"])
            frames = x_t if output_type == "latent" else self._frames(codec, x_t, output_type)
        self.maybe_free_model_hooks()
        return VideoLDMPipelineOutput(frames) if return_dict else (frames,)

    def _frames(self, codec: Codec, latents: Float[Tensor, "b c t h w"], output_type: str) -> Any:
        pixels = decode(codec, latents, MemoryPolicy()).float()
        return VideoProcessor(do_resize=False).postprocess_video(pixels, output_type)

    def to_json_file(self, json_file_path: str | PathLike[str]) -> None:
        """Writes the index of a saved folder. It names the stock class: diffusers looks for classes in itself alone,
        and so everybody's diffusers loads the image part, without code of ours."""
        index = json.loads(self.to_json_string())
        index |= {"_class_name": STOCK, "requires_safety_checker": False} | {name: [None, None] for name in ABSENT}
        Path(json_file_path).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")

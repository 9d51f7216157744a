"""What score distillation needs of a model, from a diffusers pipeline: its network as a denoiser, its words, its codec.

Each network is a module called `(x_t, t, text states, ...)`, as `shared.diffusion.denoiser` calls all networks. x_t are
latents, or pixels where the model has no autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.schedule import NoiseSchedule, prediction_type_of
from shared.latents.codec import Codec
from shared.models.pipelines.classes import DISTILLED, unusable
from shared.models.pipelines.load import PipelineModel

Told = dict[str, Tensor]
GUIDANCE = 3.5  # what Flux is told of guidance where it was distilled to hear of it


class Pixels:
    """The codec of a model without an autoencoder."""

    factor = 1
    vae = nn.Identity()

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The pixels themselves."""
        return pixels


@dataclass(frozen=True)
class PipelinePrior:
    """conditions: (prompts) -> what the network is told of them. default_size: side in pixels. encoders: of text."""

    denoiser: Denoiser
    codec: Codec | Pixels
    default_size: int
    conditions: Callable[[list[str]], Conditioning]
    encoders: list[nn.Module]
    device: torch.device

    @property
    def schedule(self) -> NoiseSchedule:
        return self.denoiser.schedule


def prior_of(model: PipelineModel) -> PipelinePrior:
    """Raises ModelError for a class whose gradient cannot be had."""
    build = PRIORS.get(model.class_name)
    if build is None:
        raise unusable(model.path, model.class_name, DISTILLED)
    return build(model.pipeline)


class StableDiffusion3(nn.Module):
    """Rectified flow (Esser et al. 2024)."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self,
        x_t: Float[Tensor, "b c h w"],
        t: Shaped[Tensor, " b"],
        encoder_hidden_states: Float[Tensor, "b n d"],
        added_cond_kwargs: Told,
    ) -> Float[Tensor, "b c h w"]:
        pooled = added_cond_kwargs["text_embeds"]
        return self.transformer(x_t, encoder_hidden_states, pooled, t, return_dict=False)[0]


class Flux(nn.Module):
    """Rectified flow over squares of 2x2 latents, each with its place."""

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        self.transformer = pipeline.transformer
        self._pipeline = (pipeline,)  # no module of this one

    def forward(
        self,
        x_t: Float[Tensor, "b c h w"],
        t: Shaped[Tensor, " b"],
        encoder_hidden_states: Float[Tensor, "b n d"],
        added_cond_kwargs: Told,
    ) -> Float[Tensor, "b c h w"]:
        (pipeline,) = self._pipeline
        b, c, h, w = x_t.shape
        places = pipeline._prepare_latent_image_ids(b, h // 2, w // 2, x_t.device, x_t.dtype)
        guidance = x_t.new_full((b,), GUIDANCE) if self.transformer.config.guidance_embeds else None
        v = self.transformer(
            hidden_states=pipeline._pack_latents(x_t, b, c, h, w),
            timestep=t.to(x_t.dtype) / 1000,
            guidance=guidance,
            pooled_projections=added_cond_kwargs["text_embeds"],
            encoder_hidden_states=encoder_hidden_states,
            txt_ids=x_t.new_zeros(encoder_hidden_states.shape[1], 3),
            img_ids=places,
            return_dict=False,
        )[0]
        factor = pipeline.vae_scale_factor
        return pipeline._unpack_latents(v, h * factor, w * factor, factor)


class PixArt(nn.Module):
    """Noise and its variance, of which score distillation wants the first."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self,
        x_t: Float[Tensor, "b c h w"],
        t: Shaped[Tensor, " b"],
        encoder_hidden_states: Float[Tensor, "b n d"],
        added_cond_kwargs: Told,
    ) -> Float[Tensor, "b c h w"]:
        told: dict[str, Any] = {"resolution": None, "aspect_ratio": None}
        if self.transformer.use_additional_conditions:
            side = x_t.new_tensor([x_t.shape[-2], x_t.shape[-1]]) * 8
            told = {"resolution": side.expand(len(x_t), 2), "aspect_ratio": (side[:1] / side[1:]).expand(len(x_t), 1)}
        made = self.transformer(
            x_t, encoder_hidden_states=encoder_hidden_states, encoder_attention_mask=added_cond_kwargs["mask"],
            timestep=t, added_cond_kwargs=told, return_dict=False,
        )[0]  # fmt: skip
        return made[:, : x_t.shape[1]]


class DeepFloyd(nn.Module):
    """Noise of pixels and its variance (DeepFloyd IF, the first stage)."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, x_t: Float[Tensor, "b c h w"], t: Shaped[Tensor, " b"], encoder_hidden_states: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b c h w"]:
        return self.unet(x_t, t, encoder_hidden_states, return_dict=False)[0][:, : x_t.shape[1]]


def _stable_diffusion_3(pipeline: Any) -> PipelinePrior:
    def conditions(prompts: list[str]) -> Conditioning:
        text, _, pooled, _ = pipeline.encode_prompt(prompts, None, None, do_classifier_free_guidance=False)
        return Conditioning(text, pooled=pooled)

    side = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
    return _prior(pipeline, StableDiffusion3(pipeline.transformer), conditions, Codec(pipeline.vae), side)


def _flux(pipeline: Any) -> PipelinePrior:
    def conditions(prompts: list[str]) -> Conditioning:
        text, pooled, _ = pipeline.encode_prompt(prompts, None)
        return Conditioning(text, pooled=pooled)

    side = pipeline.default_sample_size * pipeline.vae_scale_factor
    return _prior(pipeline, Flux(pipeline), conditions, Codec(pipeline.vae), side)


def _pixart(pipeline: Any) -> PipelinePrior:
    def conditions(prompts: list[str]) -> Conditioning:
        text, mask, _, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)
        return Conditioning(text, added={"mask": mask})

    side = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
    return _prior(pipeline, PixArt(pipeline.transformer), conditions, Codec(pipeline.vae), side)


def _deepfloyd(pipeline: Any) -> PipelinePrior:
    def conditions(prompts: list[str]) -> Conditioning:
        return Conditioning(pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)[0])

    return _prior(pipeline, DeepFloyd(pipeline.unet), conditions, Pixels(), pipeline.unet.config.sample_size)


def _prior(
    pipeline: Any,
    network: nn.Module,
    conditions: Callable[[list[str]], Conditioning],
    codec: Codec | Pixels,
    side: int,
) -> PipelinePrior:
    encoders = [part for name, part in pipeline.components.items() if name.startswith("text_encoder") and part]
    schedule = NoiseSchedule.from_scheduler(pipeline.scheduler).to(pipeline.device)
    denoiser = Denoiser(network.eval(), schedule, prediction_type_of(pipeline.scheduler))

    @torch.no_grad()
    def told(prompts: list[str]) -> Conditioning:
        return conditions(prompts).each(lambda part: part.detach())

    return PipelinePrior(denoiser, codec, side, told, encoders, pipeline.device)


PRIORS: dict[str, Callable[[Any], PipelinePrior]] = {
    "StableDiffusion3Pipeline": _stable_diffusion_3,
    "FluxPipeline": _flux,
    "PixArtAlphaPipeline": _pixart,
    "PixArtSigmaPipeline": _pixart,
    "IFPipeline": _deepfloyd,
}

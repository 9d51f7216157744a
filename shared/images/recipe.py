"""What a picture is made from. Imports no torch."""

from __future__ import annotations

from pydantic import Field, model_validator

from shared.compute.policy import DecodeMemory, NetworkMemory
from shared.diffusion.guidance_name import GuidanceName, guided_somewhere
from shared.models.adapters.recipe import Adapted


class ImageRecipe(Adapted, DecodeMemory, NetworkMemory):
    """One picture. Sizes are in pixels; a model takes multiples of its codec's factor."""

    prompt: str = Field(min_length=1, max_length=2000, pattern=r"\S", description="what to show")
    negative: str = Field("", max_length=2000, description="what to steer away from")
    model: str = Field("world", min_length=1, description="world, a folder, a .safetensors file or a hub id")
    width: int | None = Field(None, ge=8, le=4096, description="pixels; the model's own where not given")
    height: int | None = Field(None, ge=8, le=4096, description="pixels; the model's own where not given")
    steps: int = Field(25, ge=1, le=1000, description="denoising steps")
    guidance: GuidanceName = Field("classifier-free", description="how the prompt is made to steer")
    guidance_scale: float = Field(5.0, ge=0, le=100, description="how strongly the prompt steers; 1 is no guidance")
    guidance_rescale: float = Field(0.5, ge=0, le=1, description="pulls guided contrast back (Lin et al. 2023)")
    guidance_start: float = Field(0.0, ge=0, lt=1, description="share of the way from noise before guidance begins")
    guidance_stop: float = Field(1.0, gt=0, le=1, description="share of the way from noise after which it ends")
    seed: int = Field(0, ge=0, lt=2**63, description="the same seed gives the same picture")

    _guided_somewhere = model_validator(mode="after")(guided_somewhere)

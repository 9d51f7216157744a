"""What a picture is made from. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from shared.compute.policy import DecodeMemory, NetworkMemory
from shared.diffusion.guidance_name import GuidanceName, ScorerName, guided_somewhere
from shared.images.borders import parse_borders
from shared.models.adapters.recipe import Adapted, file_of_folder
from shared.models.open_clip import is_open_clip, weights_of
from shared.recipe import WEIGHTS, input_file

NOISE_LEVEL = 20  # of what an upscaler sees, where none is given
EDITED, PAINTED = 0.75, 1.0  # strength where none is given: of a whole picture, and of parts of it


class ImageRecipe(Adapted, DecodeMemory, NetworkMemory):
    """One picture. Sizes are in pixels; a model takes multiples of its codec's factor.

    With `image` it begins with a picture, whose middle is taken in the size that is asked for, and is another one
    (`strength`), has something else in it where `mask` is white, or is larger by `extend`. What `depth` and an
    upscaler make of it, `shared.images.beside` says.
    """

    prompt: str = Field(min_length=1, max_length=2000, pattern=r"\S", description="what to show")
    negative: str = Field("", max_length=2000, description="what to steer away from")
    image: str | None = Field(
        None, min_length=1, description="a picture file to begin with", json_schema_extra=input_file()
    )
    strength: float | None = Field(
        None, gt=0, le=1, description=f"share of the steps that change it (default {EDITED}; of what is painted anew 1)"
    )
    mask: str | None = Field(
        None, min_length=1, description="a picture file, white where `image` is painted anew; as large as that is",
        json_schema_extra=input_file(),
    )  # fmt: skip
    depth: str | None = Field(
        None, min_length=1, description="a picture of depth, near white and far black, for a model that sees depth; as "
        "large as `image`, of which the model finds it where not given", json_schema_extra=input_file(),
    )  # fmt: skip
    noise_level: int | None = Field(
        None,
        ge=0,
        lt=1000,
        description=f"noise in the picture that an upscaler sees (default {NOISE_LEVEL}): more is freer",
    )
    extend: str | None = Field(None, description="pixels to paint around `image`, such as left=64,top=32")
    model: str = Field("world", min_length=1, description="world, a folder, a .safetensors file or a hub id")
    pipeline_class: str | None = Field(
        None, min_length=1, description="a class of the installed diffusers to run the model with, in place of its own"
    )
    width: int | None = Field(None, ge=8, le=4096, description="pixels; the model's own where not given")
    height: int | None = Field(None, ge=8, le=4096, description="pixels; the model's own where not given")
    steps: int = Field(25, ge=1, le=1000, description="denoising steps")
    scheduler: str | None = Field(
        None, min_length=1, description="another sampler than the model's, by diffusers' name: ddim, euler-discrete ..."
    )
    guidance: GuidanceName = Field("classifier-free", description="how the prompt is made to steer")
    guidance_scale: float = Field(5.0, ge=0, le=100, description="how strongly the prompt steers; 1 is no guidance")
    guidance_rescale: float = Field(0.5, ge=0, le=1, description="pulls guided contrast back (Lin et al. 2023)")
    clip_guidance: float | None = Field(
        None, ge=0, le=100_000, description="how strongly a CLIP's likeness of picture and prompt steers; 100 is much"
    )
    scorer: ScorerName | None = Field(None, description="whose likeness `clip_guidance` is: clip, or a plug-in's")
    clip_model: str | None = Field(
        None, min_length=1, description="a CLIP of transformers or open_clip for `clip_guidance`; the model's own where"
        " not given", json_schema_extra=input_file(WEIGHTS),
    )  # fmt: skip
    guidance_start: float = Field(0.0, ge=0, lt=1, description="share of the way from noise before guidance begins")
    guidance_stop: float = Field(1.0, gt=0, le=1, description="share of the way from noise after which it ends")
    seed: int = Field(0, ge=0, lt=2**63, description="the same seed gives the same picture")

    _guided_somewhere = model_validator(mode="after")(guided_somewhere)

    @property
    def share_of_steps(self) -> float:
        """`strength`, or what it is where none is given."""
        return self.strength or (EDITED if self.mask is None and self.extend is None else PAINTED)

    @property
    def uses(self) -> tuple[str, ...]:
        """Components of a model folder that have a part in this picture, and in others none."""
        return ("image_encoder",) if self.clip_guidance and self.clip_model is None else ()

    @field_validator("clip_model")
    @classmethod
    def _file_of_a_clip(cls, value: str | None) -> str | None:
        if value is not None and is_open_clip(Path(value)):
            return str(weights_of(Path(value)))
        return file_of_folder(value)

    @field_validator("extend")
    @classmethod
    def _borders(cls, value: str | None) -> str | None:
        if value is not None:
            parse_borders(value)
        return value

    @model_validator(mode="after")
    def _with_a_picture(self) -> ImageRecipe:
        for key in ("strength", "mask", "extend"):
            if getattr(self, key) is not None and self.image is None:
                raise ValueError(f"image beside {key}: {key} says what becomes of a picture")
        for key in ("scorer", "clip_model"):
            if getattr(self, key) is not None and self.clip_guidance is None:
                raise ValueError(f"clip_guidance beside {key}: it says how strongly that steers")
        if self.mask is not None and self.extend is not None:
            raise ValueError("mask or extend, not both")
        return self

"""What an asset is made from. Imports no torch."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from shared.compute.policy import GradientMemory, NetworkMemory
from shared.diffusion.guidance_name import GuidanceName
from shared.models.adapters.recipe import Adapted
from shared.plugins import OneOf

FieldName = Annotated[str, OneOf(("triplane", "grid"), "fields")]
MILLIMETRES = {"": 1.0, "mm": 1.0, "cm": 10.0, "m": 1000.0, "in": 25.4}
LENGTH = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(mm|cm|m|in|)")


class AssetRecipe(Adapted, GradientMemory, NetworkMemory):
    """One text-to-3D asset: prompt, prior, distillation, mesh and turntable.

    Lengths are in world units (objects fill the unit ball), angles in degrees, picture sizes in pixels.
    """

    prompt: str = Field(min_length=1, max_length=2000, pattern=r"\S", description="what to make")
    negative: str = Field("", max_length=2000, description="what to steer away from")
    model: str = Field("world", min_length=1, description="world, a folder, a .safetensors file or a hub id")
    seed: int = Field(0, ge=0, lt=2**63, description="the same seed gives the same asset")

    # Score distillation.
    steps: int = Field(400, ge=1, le=100_000, description="optimisation steps")
    teacher: Literal["auto", "image", "views"] = Field(
        "auto",
        description="what is asked about renders: each alone, or all together (auto: where a model knows views)",
    )
    guidance: GuidanceName = Field("classifier-free", description="how the prompt is made to steer")
    guidance_scale: float = Field(10.0, ge=0, le=1000, description="how strongly to follow the prompt")
    cfg_convention: Literal["cfg", "dreamfusion"] = Field("cfg", description="what guidance_scale counts")
    guidance_rescale: float = Field(0.0, ge=0, le=1, description="keeps strong guidance from oversaturating")
    view_guidance_scale: float = Field(
        1.0, ge=1, le=20,
        description="of views together, how far away from what each would be alone; 1 is no such guidance, and faster",
    )  # fmt: skip
    noise: Literal["drawn", "inverted"] = Field(
        "drawn", description="of a step: by chance, or what would have become its renders (SDI, Lukoianov et al. 2024)"
    )
    inversion_steps: int = Field(5, ge=1, le=100, description="evaluations that find a step's noise")
    inversion_guidance_scale: float = Field(
        -7.5, ge=-1000, le=1000, description="how strongly the prompt steers, or repels, while noise is found"
    )
    views: int = Field(
        2, ge=1, le=64, description="views rendered in each step; 4 or more where they are asked about together"
    )
    overhead_probability: float = Field(0.15, ge=0, le=1, description="share of views from above")
    t_min: float = Field(0.02, ge=0, lt=1, description="least noise, as a share of the schedule")
    t_max: float = Field(0.98, gt=0, le=1, description="most noise, at the first step")
    t_max_final: float = Field(0.48, gt=0, le=1, description="most noise, at the last step")
    learning_rate: float = Field(0.02, gt=0, le=1, description="of the field, for Adam")
    opacity_weight: float = Field(0.05, ge=0, description="of the loss that keeps empty space empty")
    orientation_weight: float = Field(0.01, ge=0, description="of the loss on normals that face away")
    albedo_first: float = Field(0.25, ge=0, le=1, description="share of steps before any shading by normals")
    lambertian_probability: float = Field(
        0.75, ge=0, le=1, description="share of the later steps with shading by normals"
    )
    textureless_probability: float = Field(0.0, ge=0, le=1, description="share of the later steps with shape alone")
    background: Literal["grey", "network"] = Field("grey", description="behind the object while distilling")

    apart: bool = Field(
        True, description='make the two things of "A on top of B" or "A next to B" one by one, and place them'
    )

    # A first field, fitted to sampled views; without effect where no views are asked about together.
    fit_steps: int = Field(90, ge=0, le=100_000, description="steps that fit a field to sampled views; 0 fits none")
    fit_views: int = Field(8, ge=2, le=64, description="views that are sampled, evenly around")
    fit_sampling_steps: int = Field(20, ge=1, le=1000, description="denoising steps of the views that are sampled")
    fit_guidance_scale: float = Field(2.0, ge=0, le=1000, description="how strongly sampled views follow the prompt")
    fit_share: float = Field(1.0, ge=0, le=1, description="share of steps, the first, that a fit stands in for")

    # Field and rendering.
    field: FieldName = Field("triplane", description="how density and colour are held")
    field_resolution: int = Field(48, ge=8, le=512, description="cells of the field along an edge")
    radius: float = Field(1.15, gt=0, le=100, description="of the ball that holds the object")
    samples: int = Field(40, ge=8, le=1024, description="samples on a ray")
    coarse_render_size: int = Field(32, ge=8, le=1024, description="size of the first renders")
    coarse_share: float = Field(0.6, ge=0, le=1, description="share of steps at coarse_render_size")
    render_size: int = Field(64, ge=8, le=1024, description="size of the last renders")

    # Mesh and turntable.
    mesh_resolution: int = Field(96, ge=16, le=512, description="cells of the mesher along an edge")
    mesh_faces: int = Field(20_000, ge=0, le=10_000_000, description="simplify to about so many faces; 0 keeps all")
    print_size: float | None = Field(
        None, gt=0, le=10_000, description="largest extent of .stl and .3mf, in mm, or with a unit as 80mm, 8cm, 3in"
    )
    turntable_frames: int = Field(24, ge=1, le=1000, description="frames of one turn")
    turntable_size: int = Field(192, ge=16, le=2048, multiple_of=2, description="size of the turntable's frames")
    turntable_fps: int = Field(12, ge=1, le=240, description="frames a second of the turntable")

    @field_validator("print_size", mode="before")
    @classmethod
    def _in_millimetres(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = LENGTH.fullmatch(value.strip().lower())
        if not found:
            raise PydanticCustomError("length", "a length such as 80mm, 8cm or 3in")
        return float(found[1]) * MILLIMETRES[found[2]]

    @model_validator(mode="after")
    def _ordered(self) -> AssetRecipe:
        if not self.t_min < min(self.t_max, self.t_max_final):
            raise ValueError("t_min must be less than t_max and t_max_final")
        if self.lambertian_probability + self.textureless_probability > 1:
            raise ValueError("lambertian_probability and textureless_probability must sum to 1 at most")
        return self

"""What a clip and a training of temporal layers need to be told (no torch here: the command line's help reads it)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from shared.compute.policy import DecodeMemory, NetworkMemory
from shared.diffusion.guidance_name import GuidanceName, guided_somewhere
from shared.models.adapters.recipe import Adapted, file_of_folder
from shared.recipe import WEIGHTS, input_file
from shared.training.personalise.recipe import LoraTrainRecipe
from shared.training.recipe import StageRecipe

TRAINED_FRAMES = 16


class ClipRecipe(Adapted, DecodeMemory, NetworkMemory):
    """One clip from one prompt.

    Temporal layers are trained on 16 frames. Other numbers show the same motion in coarser or finer steps, from its
    beginning to its end. With `window` the network sees that many frames at a time, in windows that overlap: memory is
    that of one window, however long the clip. Width and height are the model's own where they are
    not given; others must be multiples of the codec's factor. Of pictures that are given the middle is taken, in the
    clip's shape.
    """

    prompt: str = Field(min_length=1, max_length=2000, pattern=r"\S", description="what to show, and how it moves")
    negative: str = Field("", max_length=2000, description="what to steer away from")
    image: str | None = Field(
        None, min_length=1, description="a picture file that the clip begins with", json_schema_extra=input_file()
    )
    last: str | None = Field(
        None, min_length=1, description="a picture file that the clip ends with", json_schema_extra=input_file()
    )
    model: str = Field("world", min_length=1, description="world, a video model's folder, or a hub id")
    motion_adapter: str | None = Field(
        None,
        min_length=1,
        description="AnimateDiff's motion modules for an image model: a MotionAdapter folder, or a file",
        json_schema_extra=input_file(WEIGHTS),
    )
    transformer_2: str | None = Field(
        None,
        min_length=1,
        description="another second transformer, for low noise, than the model's: its folder of diffusers, or a file",
        json_schema_extra=input_file(WEIGHTS),
    )
    pipeline_class: str | None = Field(
        None, min_length=1, description="a class of the installed diffusers to run the model with, in place of its own"
    )
    frames: int | None = Field(None, ge=1, le=1024, description="number of frames; the model's own where not given")
    window: int | None = Field(None, ge=2, le=64, description="frames the network sees at a time; all where not given")
    fps: int = Field(8, ge=1, le=60, description="frames a second of the file")
    width: int | None = Field(None, ge=8, le=2048, description="pixels; the model's own where not given")
    height: int | None = Field(None, ge=8, le=2048, description="pixels; the model's own where not given")
    steps: int = Field(14, ge=1, le=1000, description="denoising steps")
    scheduler: str | None = Field(
        None, min_length=1, description="another sampler than the model's, by diffusers' name: ddim, euler-discrete ..."
    )
    guidance: GuidanceName = Field("classifier-free", description="how the prompt is made to steer")
    guidance_scale: float = Field(5.0, ge=0, le=50, description="how strongly the prompt steers; 1 is no guidance")
    guidance_rescale: float = Field(0.5, ge=0, le=1, description="pulls guided contrast back (Lin et al. 2023)")
    temporal_guidance_scale: float = Field(
        2.0, ge=1, le=20, description="how far away from what frames would be alone; 1 is no such guidance, and faster"
    )
    guidance_start: float = Field(0.0, ge=0, lt=1, description="share of the way from noise before guidance begins")
    guidance_stop: float = Field(1.0, gt=0, le=1, description="share of the way from noise after which it ends")
    seed: int = Field(0, ge=0, lt=2**63, description="the same seed gives the same clip")

    _guided_somewhere = model_validator(mode="after")(guided_somewhere)

    @field_validator("motion_adapter")
    @classmethod
    def _file_of_a_folder(cls, value: str | None) -> str | None:
        return file_of_folder(value)

    @model_validator(mode="after")
    def _motion_goes_with(self) -> ClipRecipe:
        for key in ("image", "last", "pipeline_class"):
            if self.motion_adapter is not None and getattr(self, key) is not None:
                raise ValueError(f"motion_adapter and {key} do not go together")
        return self

    @property
    def brings(self) -> tuple[str, ...]:
        return super().brings if self.motion_adapter is None else (*super().brings, "temporal")

    @property
    def frame_count(self) -> int:
        """Frames of a clip by temporal layers: those that they are trained on, where none are given."""
        return TRAINED_FRAMES if self.frames is None else self.frames


class VideoTrainRecipe(StageRecipe):
    """Temporal layers on an image network that is frozen (Blattmann et al. 2023, equation 2), or trained along."""

    model: str = Field("world", min_length=1, description="image model to build on, where OUT holds none yet")
    start: Literal["new", "continue"] = Field("new", description="new temporal layers, or the model's own trained on")
    steps: int = Field(1600, ge=1, le=10_000_000)
    batch_size: int = Field(4, ge=1, le=4096, description="clips a step")
    frames: int = Field(TRAINED_FRAMES, ge=2, le=64, description="frames that the layers see of a clip")
    fineness: int = Field(1, ge=1, le=16, description="clips are read so many times as finely, for parts of them")
    part_share: float = Field(0.5, ge=0, le=1, description="share of steps on parts of clips, where they are finer")
    learning_rate: float = Field(1.5e-3, gt=0, le=1)
    alpha_learning_rate: float = Field(2e-2, gt=0, le=1, description="learning rate of the mixing weights alpha")
    embed_dim: int = Field(128, ge=8, le=2048, multiple_of=4, description="width of the frames' conditioning")
    head_dim: int = Field(32, ge=8, le=256, description="width of a temporal attention head")
    space_time_levels: int | None = Field(
        None, ge=0, le=8,
        description="lowest levels of the UNet to attend over space and time: none, or the model's own, unless given",
    )  # fmt: skip
    caption_dropout: float = Field(0.1, ge=0, lt=1, description="share of clips shown without their caption")
    noise_share: float | None = Field(
        None, ge=0, lt=1, description="share of noise that frames have in common: 0.5, or the model's own, unless given"
    )
    known_share: float = Field(
        0.0, ge=0, le=1, description="share of clips of which some frames are given: the first, the last, or more"
    )
    views_share: float = Field(
        0.0, ge=0, le=1, description="share of steps on views of what stands still, where the data has any"
    )
    image_learning_rate: float = Field(
        0.0, ge=0, le=1, description="learning rate of the image network, which stays as it is at 0"
    )
    stills: int = Field(16, ge=1, le=4096, description="pictures a step, where the image network is trained along")
    noise_bias: float = Field(1.5, ge=0.1, le=10, description="1 draws noise levels evenly; more, high ones more often")
    min_snr_gamma: float = Field(5.0, gt=0, description="caps the loss weight of almost clean frames")
    difference_weight: float = Field(
        0.0, ge=0, le=10, description="how much errors that change from frame to frame count once more"
    )

    @property
    def clip_frames(self) -> int:
        """Frames that clips are read at: every `fineness`-th one makes `frames`, from the first to the last."""
        return (self.frames - 1) * self.fineness + 1


class VideoLoraTrainRecipe(LoraTrainRecipe):
    """Low-rank changes of temporal layers, of the image UNet in which they stand, or of both; and a new word."""

    model: str = Field("world", min_length=1, description="video model to teach: world, a folder or a hub id")
    concept: str | None = Field(
        None, min_length=1, max_length=100, pattern=r"\S", description="what the clips show: a word, best a new one"
    )
    batch_size: int = Field(2, ge=1, le=4096, description="clips a step")
    frames: int = Field(TRAINED_FRAMES, ge=2, le=64, description="frames that the network sees of a clip")
    networks: Literal["both", "temporal", "image"] = Field(
        "both", description="what changes: temporal layers, how things move; the image UNet, how they look; or both"
    )
    noise_bias: float = Field(1.5, ge=0.1, le=10, description="1 draws noise levels evenly; more, high ones more often")

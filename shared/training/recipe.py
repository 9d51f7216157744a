"""Training recipes of the core's stages (no torch here: they are read by the command line's help)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.compute.policy import GradientMemory
from shared.recipe import same_result


class StageRecipe(GradientMemory):
    """What all stages share."""

    steps: int = Field(1000, ge=1, le=10_000_000)
    batch_size: int = Field(32, ge=1, le=4096)
    accumulate: int = Field(1, ge=1, le=4096, description="batches a step, one after the other")
    learning_rate: float = Field(1e-3, gt=0, le=1)
    warmup_steps: int = Field(100, ge=1)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon: of matrices; AdamW of the rest")
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 where the hardware has instructions for it"
    )
    checkpoint_minutes: float = Field(3.0, gt=0, json_schema_extra=same_result("how often it is saved"))

    @property
    def caption(self) -> str | None:
        """That of pictures which have none; None where there must be one."""
        return None


class PictureStageRecipe(StageRecipe):
    """A stage that sees pictures one by one: stills, and single frames of clips."""

    size: int = Field(64, ge=8, le=4096, multiple_of=4, description="side of the training pictures in pixels")
    clip_fraction: float = Field(0.3, ge=0, le=1, description="share of the pictures drawn from clips")


class AutoencoderTrainRecipe(PictureStageRecipe):
    """A deterministic convolutional autoencoder (diffusers' AutoencoderTiny) at a quarter of the picture's size."""

    start: Literal["new", "continue"] = Field("new", description="a new network, or that of a model trained on")
    model: str = Field("world", min_length=1, description="model to continue from, where OUT holds none yet")
    size: int = Field(64, ge=8, le=4096, multiple_of=8, description="side of the training pictures in pixels")
    channels: int = Field(64, ge=8, le=512)
    latent_channels: int = Field(8, ge=1, le=32)
    encoder_blocks: tuple[int, int, int] = (0, 1, 3)
    decoder_blocks: tuple[int, int, int] = (3, 2, 0)
    latent_noise: float = Field(0.1, ge=0, le=1, description="noise on the latents while training, in their own units")
    scale_weight: float = Field(0.25, ge=0, description="of the loss of half-size latents, which keeps them smooth")


class ImageTrainRecipe(PictureStageRecipe):
    """A text-conditioned UNet2DConditionModel on cached latents, its CLIP text transformer trained along."""

    start: Literal["new", "continue"] = Field("new", description="new networks, or those of a model trained on")
    model: str = Field("world", min_length=1, description="model to continue from, where OUT holds none yet")
    unet_channels: tuple[int, ...] = (64, 128, 192)
    layers_per_block: int = Field(1, ge=1, le=4)
    head_dim: int = Field(32, ge=8)
    text_width: int = Field(192, ge=48, multiple_of=48)
    text_layers: int = Field(2, ge=1)
    text_tokens: int | None = Field(
        None, ge=8, le=77, description="tokens of a prompt; unless given, those of the longest caption and 8 more"
    )
    vocabulary_size: int = Field(8192, ge=600, le=65_536, description="most tokens; rare words beyond are spelled")
    caption_dropout: float = Field(0.1, ge=0, lt=1)
    min_snr_gamma: float = Field(5.0, gt=0)
    text_learning_rate: float = Field(1e-4, gt=0, le=1, description="learning rate of the text transformer")
    noise_bias: float = Field(1.5, ge=0.1, le=10, description="1 draws noise levels evenly; more, high ones more often")


class ScorerTrainRecipe(PictureStageRecipe):
    """CLIP's contrastive stage: an image tower learns to agree with the (frozen) text transformer."""

    steps: int = Field(900, ge=1, le=10_000_000)
    batch_size: int = Field(128, ge=2, le=4096)
    image_width: int = Field(128, ge=16)
    image_layers: int = Field(4, ge=1)
    patch_size: int = Field(8, ge=2)
    head_dim: int = Field(32, ge=8)
    augment: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how far pictures are moved, scaled and made noisy, so that few are not learned by heart",
    )

"""What the stages that teach an image model something new need to be told (no torch here)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.training.recipe import StageRecipe


class ConceptRecipe(StageRecipe):
    """What they share. Pictures without a caption show "a CONCEPT"."""

    model: str = Field("world", min_length=1, description="image model to teach: world, a folder, a file or a hub id")
    concept: str | None = Field(
        None, min_length=1, max_length=100, pattern=r"\S", description="what the pictures show: a word, best a new one"
    )
    starts_as: str | None = Field(
        None, min_length=1, pattern=r"\S",
        description="words that a new word begins as; the best fitting of a small vocabulary unless given",
    )  # fmt: skip
    steps: int = Field(600, ge=1, le=10_000_000)
    batch_size: int = Field(4, ge=1, le=4096, description="pictures a step")
    warmup_steps: int = Field(20, ge=1)
    ema_decay: float = Field(0.99, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    caption_dropout: float = Field(0.1, ge=0, lt=1, description="share of pictures shown without their caption")
    min_snr_gamma: float = Field(5.0, gt=0, description="caps the loss weight of almost clean pictures")
    noise_bias: float = Field(1.0, ge=0.1, le=10, description="1 draws noise levels evenly; more, high ones more often")

    @property
    def caption(self) -> str | None:
        return None if self.concept is None else f"a {self.concept}"


class LoraTrainRecipe(ConceptRecipe):
    """Low-rank changes of the UNet (Hu et al. 2021), and a new word where a small vocabulary lacks the concept."""

    rank: int = Field(8, ge=1, le=1024, description="of the changes of the denoiser")
    text_rank: int = Field(0, ge=0, le=1024, description="of those of the text encoder, which stays as it is at 0")
    layers: Literal["attention", "all"] = Field("attention", description="that change: convolutions, too, with all")
    learning_rate: float = Field(1e-3, gt=0, le=1)
    token_learning_rate: float = Field(1e-2, gt=0, le=1, description="learning rate of a new word's vectors")


class DreamboothTrainRecipe(LoraTrainRecipe):
    """LoRA with prior preservation (Ruiz et al. 2023, equation 2): the model's pictures of a class stay as they are."""

    concept: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"\S",
        description="what the pictures show: best a new word; needed",
    )
    class_prompt: str = Field(
        min_length=1, max_length=2000, pattern=r"\S",
        description='what the concept is one of, as a prompt such as "a cone"; needed',
    )  # fmt: skip
    prior_pictures: int = Field(32, ge=1, le=100_000, description="pictures of the class that the model makes at first")
    prior_steps: int = Field(25, ge=1, le=1000, description="denoising steps of these")
    prior_weight: float = Field(1.0, ge=0, le=100, description="of their loss beside that of the pictures given")


class TextualInversionRecipe(ConceptRecipe):
    """A new word alone (Gal et al. 2022): the model stays as it is."""

    concept: str = Field(
        min_length=1, max_length=100, pattern=r"\S", description="the word, which the model must not have yet; needed"
    )
    learning_rate: float = Field(1e-2, gt=0, le=1, description="of the word's vectors")
    vectors: int = Field(1, ge=1, le=64, description="tokens that the word stands for")

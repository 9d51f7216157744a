"""Stage 3: an image encoder that agrees with the text encoder (CLIP; Radford et al. 2021, figure 3).

I, T    features of pictures and captions, unit length, "b d"; the logit of a pair is exp(s) I . T, s learned.
d       the text transformer's width: its pooled features are taken as they are, so it needs no projection of its own.

The text transformer was trained with the image model and stays frozen; only the image tower and s learn. Pictures that
share a caption are each other's positives, so they are left out of the negatives.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from shared.artifacts.files import replaced_folder
from shared.attention import install_attention
from shared.compute.modes import checkpointed_blocks
from shared.errors import ModelError
from shared.models.image_model import load_text
from shared.models.prompts.text import TextConditioner
from shared.models.save import write_network
from shared.rng import generator
from shared.training import ranks
from shared.training.data.arrays import draw_pictures, load_all
from shared.training.half import autocast
from shared.training.loop import Training, TrainState, seeded
from shared.training.recipe import ScorerTrainRecipe

LARGEST_LOGIT_SCALE = math.log(100)  # Radford et al. 2021, section 2.5


class ImageTower(nn.Module):
    """The image encoder and s."""

    def __init__(self, encoder: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.encoder = encoder
        self.logit_scale = nn.Parameter(torch.full((), math.log(1 / 0.07)))

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit features of pictures in [-1, 1]."""
        return F.normalize(self.encoder(pixels).image_embeds.float(), dim=-1)


def build(recipe: ScorerTrainRecipe, image_size: int, embedding: int) -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        image_size=image_size,
        patch_size=recipe.patch_size,
        hidden_size=recipe.image_width,
        intermediate_size=4 * recipe.image_width,
        num_hidden_layers=recipe.image_layers,
        num_attention_heads=max(1, recipe.image_width // recipe.head_dim),
        projection_dim=embedding,
    )
    return CLIPVisionModelWithProjection(config)


def contrastive_loss(
    images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"], captions: list[str], logit_scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Symmetric cross-entropy of telling each picture's caption from the batch's others, and each caption's picture.

    Pairs whose captions are equal, the diagonal aside, count neither for nor against.
    """
    logits = logit_scale.exp() * images @ texts.T
    numbers = {caption: number for number, caption in enumerate(captions)}
    meaning = torch.tensor([numbers[caption] for caption in captions], device=images.device)
    same = (meaning[:, None] == meaning[None]) & ~torch.eye(len(captions), dtype=torch.bool, device=images.device)
    logits = logits.masked_fill(same, -torch.inf)
    target = torch.arange(len(captions), device=images.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def augmented(pixels: Float[Tensor, "b 3 h w"], amount: float, draw: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Pictures moved by up to `amount` eighths of their side, scaled by up to 1/5 and noisy, each at random."""
    if amount == 0:
        return pixels
    u = torch.rand(len(pixels), 3, generator=draw)
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 + 0.2 * amount * (2 * u[:, 0] - 1)
    theta[:, :, 2] = 0.25 * amount * (2 * u[:, 1:] - 1)  # the grid goes from -1 to 1
    grid = F.affine_grid(theta.to(pixels), list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return moved + 0.1 * amount * torch.randn(pixels.shape, generator=draw).to(pixels)


class CaptionedBatch(NamedTuple):
    """Pictures in [-1, 1], their captions, and the captions' unit features."""

    pixels: Float[Tensor, "b 3 h w"]
    captions: list[str]
    features: Float[Tensor, "b d"]


def train_tower(
    tower: ImageTower,
    batch_at: Callable[[int], CaptionedBatch],
    recipe: ScorerTrainRecipe,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Iterator[TrainState]:
    """Trains the image tower, one yield a step; when exhausted, it holds its averaged weights.

    checkpoint: file to save to every `recipe.checkpoint_minutes` and, with `resume`, to go on from.
    Raises InputError when there is nothing to resume from.
    """
    install_attention(tower)
    tower.train()
    blocks = [m for m in tower.modules() if isinstance(m, CLIPEncoderLayer)] if recipe.checkpointing else []
    training = Training(recipe, {"tower": tower}, checkpoint, resume=resume)

    def loss_at(number: int) -> tuple[Tensor, dict[str, float]]:
        pixels, captions, texts = batch_at(number)
        tower.logit_scale.data.clamp_(max=LARGEST_LOGIT_SCALE)
        with checkpointed_blocks(blocks), autocast(recipe.precision, pixels.device):
            images = tower(pixels)
        loss = contrastive_loss(images, texts, captions, tower.logit_scale)
        found = (images.detach() @ texts.T).argmax(dim=1).tolist()
        right = sum(captions[i] == caption for i, caption in zip(found, captions, strict=True))
        return loss, {"retrieval": right / len(captions)}

    yield from training.run(loss_at)
    tower.eval()


def train(
    recipe: ScorerTrainRecipe, data: Path, out: Path, resume: bool = False, device: str = "cpu"
) -> Iterator[TrainState]:
    """Trains on all pictures below `data` against `out/text_encoder`; at the end `out/image_encoder` is there."""
    if not (out / "text_encoder").is_dir():
        raise ModelError(
            "scorer training", expected=f"a text encoder in {out}/text_encoder", got="none", hint="Train images first."
        )
    text = load_text(out)
    text.text_encoder.to(device)
    folders = load_all(data, size=recipe.size)

    def batch_at(step: int) -> CaptionedBatch:
        draw = generator(recipe.seed, step)
        pixels, captions = draw_pictures(folders, recipe.batch_size, recipe.clip_fraction, draw)
        return CaptionedBatch(augmented(pixels, recipe.augment, draw).to(device), captions, text.features(captions))

    tower = first_tower(recipe, text).to(device)
    yield from train_tower(tower, batch_at, recipe, checkpoint=out / "scorer.pt", resume=resume)
    if ranks.rank() == 0:
        save_image_encoder(out / "image_encoder", tower.encoder)


def first_tower(recipe: ScorerTrainRecipe, text: TextConditioner) -> ImageTower:
    """A new image tower that agrees with `text` in the width of features."""
    with seeded(recipe.seed):
        return ImageTower(build(recipe, recipe.size, text.text_encoder.config.hidden_size))


def save_image_encoder(folder: Path, encoder: CLIPVisionModelWithProjection) -> None:
    """The tower in half precision, as transformers loads it, with the preprocessing that it was trained with."""
    with replaced_folder(folder) as new:
        write_network(new, encoder)
        (new / "preprocessor_config.json").write_text(json.dumps(_preprocessing(encoder), indent=2) + "\n")


def _preprocessing(encoder: CLIPVisionModelWithProjection) -> dict[str, object]:
    size = encoder.config.image_size
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }

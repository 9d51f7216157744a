"""A tiny image encoder for tiny model folders, and a tiny CLIP of transformers."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from shared.training.clip_scorer import build, save_image_encoder
from shared.training.recipe import ScorerTrainRecipe
from tests.tiny import tiny_text


def build_image_encoder(folder: Path, seed: int = 0) -> None:
    """Into a folder of `tests.tiny.build_image_folder`."""
    torch.manual_seed(seed)
    recipe = ScorerTrainRecipe(image_width=32, image_layers=1)
    save_image_encoder(folder / "image_encoder", build(recipe, image_size=32, embedding=32))


def build_clip(folder: Path, seed: int = 3) -> Path:
    """A CLIPModel with its tokenizer and processor."""
    tokenizer, text = tiny_text(seed)
    torch.manual_seed(seed)
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config=text.config.to_dict(),
        vision_config={**vision, "image_size": 24, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}).save_pretrained(folder)
    return folder

"""The text transformer that is trained along with the image model: a new one, and one that learns more words."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from shared.errors import ModelError
from shared.models.image_model import ImageModel
from shared.models.prompts.text import TextConditioner
from shared.models.prompts.vocabulary import extend_tokenizer, learn_tokenizer
from shared.training.recipe import ImageTrainRecipe

# Deviation of a new text transformer's token and position embeddings. At transformers' own, 0.02, its layers drown the
# words, and the diffusion loss finds those for colours but not those for shapes (README, "What it measures").
TOKEN_DEVIATION = 1.0
POSITION_DEVIATION = 0.3


def new_text(recipe: ImageTrainRecipe, captions: Sequence[str]) -> TextConditioner:
    """A text transformer with random weights and the words of `captions`. Raises InputError where they hold none."""
    tokenizer = learn_tokenizer(captions, size=recipe.vocabulary_size, max_length=recipe.text_tokens)
    return TextConditioner(tokenizer, build_text(recipe, tokenizer))


def check_one_encoder(model: ImageModel) -> None:
    """Raises ModelError for a model with two text encoders: the stages train and are told of one."""
    if len(model.encoders) > 1:
        raise ModelError(
            f"training of {model.name}", expected="a model with one text encoder", got=f"{len(model.encoders)} of them"
        )


def build_text(recipe: ImageTrainRecipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.text_width,
        intermediate_size=4 * recipe.text_width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=max(1, recipe.text_width // 48),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text = CLIPTextModel(config)
    nn.init.normal_(text.embeddings.token_embedding.weight, std=TOKEN_DEVIATION)
    nn.init.normal_(text.embeddings.position_embedding.weight, std=POSITION_DEVIATION)
    return text


def with_words(text: TextConditioner, recipe: ImageTrainRecipe, captions: Sequence[str]) -> TextConditioner:
    """`text` that knows the words of `captions` besides its own, and has room for the longest of them.

    What it knew keeps its embeddings; new words and positions begin at random. A full vocabulary stays as it is, and
    so does the width of the transformer, whatever the recipe says.
    """
    tokenizer = extend_tokenizer(text.tokenizer, captions, size=recipe.vocabulary_size, max_length=recipe.text_tokens)
    if tokenizer is text.tokenizer:
        return text
    encoder, length = text.text_encoder, tokenizer.model_max_length
    if (len(tokenizer), length) == (encoder.config.vocab_size, encoder.config.max_position_embeddings):
        return TextConditioner(tokenizer, encoder)
    config = copy.deepcopy(encoder.config)
    config.vocab_size, config.max_position_embeddings = len(tokenizer), length
    longer = CLIPTextModel(config)
    longer.load_state_dict(
        encoder.state_dict()
        | {
            "embeddings.token_embedding.weight": _resized(
                encoder.embeddings.token_embedding, len(tokenizer), TOKEN_DEVIATION
            ),
            "embeddings.position_embedding.weight": _resized(
                encoder.embeddings.position_embedding, length, POSITION_DEVIATION
            ),
        }
    )
    return TextConditioner(tokenizer, longer.train(encoder.training))


def _resized(embedding: nn.Embedding, rows: int, deviation: float) -> torch.Tensor:
    """The first `rows` of an embedding, and random ones after its last."""
    old = embedding.weight.detach()[:rows]
    return torch.cat([old, deviation * torch.randn(rows - len(old), old.shape[1]).to(old)])

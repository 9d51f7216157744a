"""What tiny pipelines are made of: tokenizers built in place, small text encoders, autoencoders of a few channels."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from shared.models.prompts.vocabulary import learn_tokenizer
from tests.tiny import WORDS

WIDTH = 32  # of every text encoder
TOKENS = 16


def seeded(build: Any, *args: Any, **config: Any) -> Any:
    """A network with the same random weights at every call."""
    torch.manual_seed(0)
    return build(*args, **config).eval()


def clip_tokenizer(tokens: int) -> CLIPTokenizer:
    return learn_tokenizer([" ".join(WORDS)], max_length=tokens)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, with an end and padding, as a T5 or a language model has them."""
    words = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", "<s>", *dict.fromkeys(WORDS)])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>",
        model_max_length=TOKENS,
    )  # fmt: skip


def clip_config(tokenizer: CLIPTokenizer, width: int = WIDTH) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=width, projection_dim=width,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def clip_text(width: int = WIDTH, tokens: int = TOKENS) -> dict[str, Any]:
    tokenizer = clip_tokenizer(tokens)
    return {"tokenizer": tokenizer, "text_encoder": seeded(CLIPTextModel, clip_config(tokenizer, width))}


def projected_text(width: int = WIDTH) -> dict[str, Any]:
    """A CLIP with its projection."""
    tokenizer = clip_tokenizer(TOKENS)
    return {"tokenizer": tokenizer, "text_encoder": seeded(CLIPTextModelWithProjection, clip_config(tokenizer, width))}


def t5_text(width: int = WIDTH) -> dict[str, Any]:
    tokenizer = word_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_ff=width, d_kv=8, num_layers=1, num_heads=4,
        relative_attention_num_buckets=8,
    )  # fmt: skip
    return {"tokenizer": tokenizer, "text_encoder": seeded(T5EncoderModel, config)}


def umt5_text(width: int = WIDTH) -> dict[str, Any]:
    tokenizer = word_tokenizer()
    config = UMT5Config(
        vocab_size=len(tokenizer), d_model=width, d_ff=width, d_kv=8, num_layers=1, num_heads=4,
        relative_attention_num_buckets=8,
    )  # fmt: skip
    return {"tokenizer": tokenizer, "text_encoder": seeded(UMT5EncoderModel, config)}


def gemma_text(width: int = WIDTH) -> dict[str, Any]:
    tokenizer = word_tokenizer()
    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=width, head_dim=8, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=2, pad_token_id=0, eos_token_id=1, bos_token_id=3,
    )  # fmt: skip
    return {"tokenizer": tokenizer, "text_encoder": seeded(Gemma2Model, config)}


def llama_text(width: int = WIDTH) -> dict[str, Any]:
    tokenizer = word_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=width, num_hidden_layers=3,
        num_attention_heads=4, pad_token_id=0, eos_token_id=1, bos_token_id=3,
    )  # fmt: skip
    return {"tokenizer": tokenizer, "text_encoder": seeded(LlamaModel, config)}


def qwen_text() -> dict[str, Any]:
    tokenizer = word_tokenizer()
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 1000000.0,
            "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
        },
        vision_config={"depth": 1, "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_heads": 2,
                       "out_hidden_size": WIDTH},
    )  # fmt: skip
    return {"tokenizer": tokenizer, "text_encoder": seeded(Qwen2_5_VLForConditionalGeneration, config)}


def second(parts: dict[str, Any], number: int = 2) -> dict[str, Any]:
    """The same parts as a pipeline's second or third text encoder."""
    return {f"{name}_{number}": part for name, part in parts.items()}


def image_encoder(width: int = WIDTH, side: int = 224) -> dict[str, Any]:
    config = CLIPVisionConfig(
        hidden_size=width, projection_dim=width, num_hidden_layers=2, num_attention_heads=4, image_size=side,
        intermediate_size=width, patch_size=56,
    )  # fmt: skip
    return {"image_encoder": seeded(CLIPVisionModelWithProjection, config)}


def image_processor(side: int = 224) -> CLIPImageProcessor:
    return CLIPImageProcessor(crop_size={"height": side, "width": side}, size={"shortest_edge": side})


def kl(levels: int = 2, latents: int = 4, **config: Any) -> AutoencoderKL:
    """An autoencoder of 2^(levels - 1) pixels a latent."""
    return seeded(
        AutoencoderKL,
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=latents,
        norm_num_groups=4,
        **config,
    )

"""Stable Diffusion's original layout: the configurations of its networks, read off the shapes in the header.

What no shape tells is as it was in every model of that family: the heads of attention (8, or as many as are 64 wide),
the activation of the text encoder, the scale of latents. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shared.errors import ModelError
from shared.models.layouts.family import SD2, UNET, XL, Header

VAE, CLIP, OPEN_CLIP = "first_stage_model.", "cond_stage_model.transformer.", "cond_stage_model.model."
FIRST_OF_XL, SECOND_OF_XL = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
PROJECTION, NUMBERS = "text_projection", 6  # of XL: the second encoder's, and what the UNet is told of the size
TEXT_MODEL = "text_model."  # after CLIP's prefix, but for files merged by some early tools
# Of the token and the position embedding, the layers, and in each of these the first linear layer of its network.
CLIP_NAMES = ("embeddings.token_embedding.weight", "embeddings.position_embedding.weight", "encoder.layers.", "mlp.fc1")
OPEN_CLIP_NAMES = ("token_embedding.weight", "positional_embedding", "transformer.resblocks.", "mlp.c_fc")
HEADS = 8  # of Stable Diffusion 1, at every level
HEAD_WIDTH = 64  # of Stable Diffusion 2, and of both text encoders
SCALING_FACTOR, XL_SCALING_FACTOR = 0.18215, 0.13025
SCHEDULE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "trained_betas": None,
}


def unet_config(file: Path, header: Header, family: str, prediction_type: str) -> dict[str, Any]:
    """Of the `UNet2DConditionModel` in a file. Raises ModelError where its blocks are none of Stable Diffusion's."""
    levels: list[list[tuple[int, bool]]] = [[]]  # of each level its residual blocks: channels, and whether with text
    for block in _blocks(header, f"{UNET}input_blocks.", start=1):
        if f"{block}0.op.weight" in header:
            levels.append([])
        else:
            shape = _shape(file, header, f"{block}0.in_layers.2.weight")
            levels[-1].append((shape[0], f"{block}1.proj_in.weight" in header))
    kinds = [set(level) for level in levels]
    counts = {len(level) for level in levels}
    if len(counts) != 1 or any(len(kind) != 1 for kind in kinds):
        raise ModelError(f"model {file}", expected="levels of equal residual blocks", got=levels)
    widths, attends = zip(*(kind.pop() for kind in kinds), strict=True)
    first = _shape(file, header, f"{UNET}input_blocks.0.0.weight")
    level = attends.index(True) if True in attends else 0
    attention = f"{UNET}input_blocks.{1 + level * (counts.copy().pop() + 1)}.1."
    depths = [len(list(_blocks(header, f"{place}.transformer_blocks."))) for place in _attentions(attends, counts)]
    linear = len(_shape(file, header, f"{attention}proj_in.weight")) == 2
    added: dict[str, Any] = {}
    if family == XL:
        told = _shape(file, header, f"{UNET}label_emb.0.0.weight")[1]
        pooled = _shape(file, header, f"{SECOND_OF_XL}{PROJECTION}")[-1]
        added = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (told - pooled) // NUMBERS,
            "projection_class_embeddings_input_dim": told,
            "transformer_layers_per_block": [max(depth, 1) for depth in depths],
        }
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 128 if family == XL else 96 if family == SD2 and prediction_type == "v_prediction" else 64,
        "in_channels": first[1],
        "out_channels": _shape(file, header, f"{UNET}out.2.weight")[0],
        "block_out_channels": list(widths),
        "layers_per_block": counts.pop(),
        "down_block_types": [f"{'CrossAttn' if with_text else ''}DownBlock2D" for with_text in attends],
        "up_block_types": [f"{'CrossAttn' if with_text else ''}UpBlock2D" for with_text in reversed(attends)],
        "cross_attention_dim": _shape(file, header, f"{attention}transformer_blocks.0.attn2.to_k.weight")[-1],
        "attention_head_dim": [width // HEAD_WIDTH for width in widths] if linear else HEADS,
        "use_linear_projection": linear,
        "upcast_attention": family == SD2,  # whose products pass float16
        **added,
    }


def _attentions(attends: Sequence[bool], counts: set[int]) -> list[str]:
    """The prefix of the first attention of each level, whether it has one or not."""
    (layers,) = counts
    return [f"{UNET}input_blocks.{1 + level * (layers + 1)}.1" for level in range(len(attends))]


def vae_config(file: Path, header: Header, unet: dict[str, Any]) -> dict[str, Any]:
    """Of the `AutoencoderKL` in a file. Raises ModelError for what is missing."""
    levels = list(_blocks(header, f"{VAE}encoder.down."))
    widths = [_shape(file, header, f"{level}block.0.conv1.weight")[0] for level in levels]
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": unet["sample_size"] * 2 ** (len(levels) - 1),
        "in_channels": _shape(file, header, f"{VAE}encoder.conv_in.weight")[1],
        "out_channels": _shape(file, header, f"{VAE}decoder.conv_out.weight")[0],
        "latent_channels": _shape(file, header, f"{VAE}decoder.conv_in.weight")[1],
        "block_out_channels": widths,
        "layers_per_block": sum(1 for _ in _blocks(header, f"{levels[0]}block.")) if levels else 0,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "scaling_factor": XL_SCALING_FACTOR if is_xl(header) else SCALING_FACTOR,
    }


def is_xl(header: Header) -> bool:
    """Whether a file has the two text encoders of Stable Diffusion XL."""
    return any(name.startswith(SECOND_OF_XL) for name in header)


def text_config(file: Path, header: Header, *, second: bool = False) -> dict[str, Any]:
    """Of the `CLIPTextModel` in a file: OpenAI's CLIP, or OpenCLIP without its last layer, as Stable Diffusion 2 uses
    it; of the second one of XL, OpenCLIP with its projection. Raises ModelError for what is missing."""
    xl = is_xl(header)
    open_clip = second if xl else f"{OPEN_CLIP}positional_embedding" in header
    names = OPEN_CLIP_NAMES if open_clip else CLIP_NAMES
    prefix = (SECOND_OF_XL if second else FIRST_OF_XL) if xl else OPEN_CLIP if open_clip else CLIP
    if any(name.startswith(f"{prefix}{TEXT_MODEL}") for name in header):
        prefix += TEXT_MODEL
    vocabulary, width = _shape(file, header, f"{prefix}{names[0]}")
    layers = list(_blocks(header, f"{prefix}{names[2]}"))
    return {
        "architectures": ["CLIPTextModelWithProjection" if second else "CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "max_position_embeddings": _shape(file, header, f"{prefix}{names[1]}")[0],
        "hidden_size": width,
        "projection_dim": _shape(file, header, f"{prefix}{PROJECTION}")[-1] if second else width,
        "intermediate_size": _shape(file, header, f"{prefix}{names[2]}0.{names[3]}.weight")[0],
        "num_hidden_layers": len(layers) - (open_clip and not second),
        "num_attention_heads": max(width // HEAD_WIDTH, 1),
        "hidden_act": "gelu" if open_clip else "quick_gelu",
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": 0 if open_clip else vocabulary - 1,
    }


def scheduler_config(family: str, prediction_type: str, *, zero_snr: bool = False) -> dict[str, Any]:
    """Of the scheduler that the family's own folders bring: its key `_class_name` says which."""
    if family == XL:
        spacing = (
            {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
            if zero_snr
            else {"timestep_spacing": "leading"}
        )
        kept = {key: value for key, value in SCHEDULE.items() if key != "set_alpha_to_one"}
        return {**kept, "_class_name": "EulerDiscreteScheduler", "prediction_type": prediction_type, **spacing}
    if family != SD2 and not zero_snr:
        return {**SCHEDULE, "_class_name": "PNDMScheduler", "prediction_type": prediction_type, "skip_prk_steps": True}
    changes = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if zero_snr else {}
    return {
        **SCHEDULE,
        "_class_name": "DDIMScheduler",
        "prediction_type": prediction_type,
        "clip_sample": False,
        **changes,
    }


def _blocks(header: Header, prefix: str, start: int = 0) -> Iterator[str]:
    """Prefixes of numbered blocks, `prefix` with "0.", "1.", ..., as long as there are tensors of the next."""
    number = re.compile(re.escape(prefix) + r"(\d{1,3})\.")
    there = {int(match[1]) for name in header if (match := number.match(name))}
    while start in there:
        yield f"{prefix}{start}."
        start += 1


def _shape(file: Path, header: Header, name: str) -> tuple[int, ...]:
    shape = header.get(name)
    if not shape or (name.endswith("weight") and len(shape) < 2):
        raise ModelError(f"model {file}", expected=f"a tensor {name}", got="none" if shape is None else shape)
    return shape

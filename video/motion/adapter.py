"""Reads a motion adapter: diffusers' `MotionAdapter` folder by its file of weights, or AnimateDiff's own single file.

A file with diffusers' `config.json` beside it says what it is. Any other is read by the names and shapes of its
tensors, which are called, after an optional `module.`,

    down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q.weight

What no shape tells is as it was in every adapter that was published: 8 heads, and the image model's groups of norms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import MotionAdapter, UNet2DConditionModel
from diffusers.models.embeddings import SinusoidalPositionalEmbedding

from shared.errors import ModelError
from shared.models.layouts.original_names import of_motion_module
from shared.models.weight_files import read_entries, read_json
from shared.models.weights import Stored, fill

MARK, ORIGINAL = "motion_modules.", ".temporal_transformer."
POSITIONS = re.compile(r"\.(pos_encoder|pos_embed)\.pe$")
HEADS = 8
NAMED = 3  # tensors that a message names


def load_motion_adapter(
    file: str | Path, unet: UNet2DConditionModel, model: str, *, device: str | torch.device, dtype: torch.dtype
) -> tuple[MotionAdapter, list[str]]:
    """The motion modules in a file, for the image UNet of `model`; and what to tell of tensors that do nothing.

    Raises ModelError: a file without motion modules; some that are missing, misshapen, not finite, or of another
    architecture than the UNet's.
    """
    file = Path(file)
    entries = read_entries(file)[0]
    found = {of_motion_module(name): Stored(file, entry, entry.shape) for name, entry in entries.items()}
    strange = sorted(name for name in found if MARK not in name)
    if len(strange) == len(found):
        raise ModelError(
            f"motion adapter {file}", expected="tensors of motion modules (motion_modules.*)",
            got=f"{len(found)} tensors, none of which is, such as {next(iter(entries), 'none')}",
        )  # fmt: skip
    config = _config(file, found, unet)
    if config.get("conv_in_channels") or any(name.startswith("conv_in.") for name in strange):
        raise ModelError(
            f"motion adapter {file}", expected="motion modules alone", got="one that wants a picture (PIA)"
        )
    _check_fit(file, config, found, unet, model)
    original = any(ORIGINAL in name for name in entries)

    def build() -> MotionAdapter:
        adapter = MotionAdapter.from_config(config)
        if original:  # the table of positions is computed: files in half precision hold it rounded
            for module in adapter.modules():
                if isinstance(module, SinusoidalPositionalEmbedding):
                    module.register_buffer("pe", module.pe, persistent=False)
        return adapter

    kept = {n: place for n, place in found.items() if MARK in n and not (original and POSITIONS.search(n))}
    try:
        adapter = fill(build, kept, file, device=device, dtype=dtype)
    except (TypeError, ValueError, IndexError) as error:
        raise ModelError(f"motion adapter {file}", expected="the configuration of one", got=str(error)) from error
    return adapter, [_nothing(file, strange, len(found))] if strange else []


def _config(file: Path, found: Mapping[str, Stored], unet: UNet2DConditionModel) -> dict[str, Any]:
    beside = file.with_name("config.json")
    if beside.is_file() and (config := read_json(beside)).get("_class_name") == MotionAdapter.__name__:
        return config
    levels = _count(found, r"down_blocks\.(\d+)\.")
    widths = [place.shape[0] for i in range(levels) if (place := found.get(_norm(i))) is not None]
    positions = [place.shape[1] for name, place in found.items() if POSITIONS.search(name) and len(place.shape) == 3]
    if not levels or len(widths) != levels or not positions:
        wanted = _norm(len(widths)) if positions or not levels else "a table of positions, pos_encoder.pe"
        raise ModelError(f"motion adapter {file}", expected=wanted, got=f"{len(found)} tensors without it")
    return {
        "block_out_channels": widths,
        "motion_layers_per_block": [_count(found, rf"down_blocks\.{i}\.{MARK}(\d+)\.") for i in range(levels)],
        "motion_transformer_layers_per_block": _count(found, rf"down_blocks\.0\.{MARK}0\.transformer_blocks\.(\d+)\."),
        "motion_num_attention_heads": HEADS,
        "motion_norm_num_groups": unet.config["norm_num_groups"],
        "motion_max_seq_length": min(positions),
        "use_motion_mid_block": any(name.startswith("mid_block.") for name in found),
    }


def _norm(level: int) -> str:
    return f"down_blocks.{level}.{MARK}0.norm.weight"


def _count(names: Mapping[str, object], pattern: str) -> int:
    """How many numbers there are where a pattern has its group, counted from 0."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _check_fit(
    file: Path, config: Mapping[str, Any], found: Mapping[str, Stored], unet: UNet2DConditionModel, model: str
) -> None:
    """Raises ModelError, which names both, where an adapter is made for another architecture."""
    depth = len(unet.config["block_out_channels"])
    wanted = list(unet.config["block_out_channels"]), _of_each(unet.config["layers_per_block"], depth)
    widths = list(config.get("block_out_channels", ()))
    got = widths, _of_each(config.get("motion_layers_per_block", 2), len(widths))
    if wanted != got:
        raise ModelError(
            f"motion adapter {file}", expected=f"one for {_shape(*wanted)}, as model {model} has",
            got=_shape(*got), hint="It was made for a model of another architecture",
        )  # fmt: skip
    for name, place in sorted(found.items()):
        if name.endswith((".attn1.to_k.weight", ".attn2.to_k.weight")) and len({*place.shape}) > 1:
            raise ModelError(
                f"motion adapter {file}", expected=f"attention over frames alone, of width {place.shape[0]}",
                got=f"cross attention to {place.shape[-1]} numbers a token, in {name}",
            )  # fmt: skip


def _of_each(layers: int | Sequence[int], depth: int) -> list[int]:
    return [layers] * depth if isinstance(layers, int) else list(layers)


def _shape(widths: Sequence[int], layers: Sequence[int]) -> str:
    return f"widths {', '.join(map(str, widths))} with {', '.join(map(str, layers))} layers"


def _nothing(file: Path, strange: Sequence[str], count: int) -> str:
    named = ", ".join(strange[:NAMED]) + (f" and {len(strange) - NAMED} more" * (len(strange) > NAMED))
    return f"of the {count} tensors in {file}, {len(strange)} are of no motion module and do nothing: {named}"

"""Reads a LoRA file, in whichever of the known layouts, as layers of a network's modules.

A layer changes a weight W "out in ..." to W + scale B A (Hu et al. 2021, section 4.1), scale = alpha / rank: `down` is
A "rank in ...", `up` is B "out rank"; of a convolution A is one, and B one of 1x1 (LoCon).

Layouts: kohya-ss (`lora_unet_down_blocks_0_..._to_q.lora_down.weight`, also by the block names of the original Stable
Diffusion), diffusers (`unet.down_blocks.0...to_q.lora.down.weight`, and its older ones) and PEFT
(`...to_q.lora_A.weight`), and AnimateDiff's motion LoRAs (`...attention_blocks.0.processor.to_q_lora.down.weight`).
diffusers' own converters know all but the last; what is left to do here is to find the modules. Layers of our temporal
layers, which only we know of, are in kohya's names: `lora_temporal_blocks_0_attention_to_qkv.lora_down.weight`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from diffusers.utils.state_dict_utils import (
    StateDictType,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors import safe_open
from torch import Tensor

from shared.errors import ModelError
from shared.models.adapters.recipe import checked_header, other_kind
from shared.models.layouts.original_names import of_motion_module
from shared.models.weights import check_finite

UNET, TEXT, SECOND, TEMPORAL = "unet", "text_encoder", "text_encoder_2", "temporal"
OF_TEMPORAL = re.compile(rf"lora_{TEMPORAL}_(\w+)\.(lora_down\.weight|lora_up\.weight|alpha)")
METADATA = "lora_adapter_metadata"  # where diffusers keeps what PEFT was configured with
BASE_MODEL = ("modelspec.architecture", "ss_base_model_version")  # where trainers say what a LoRA is for


@dataclass(frozen=True)
class Layer:
    """part: UNET, TEXT, SECOND, TEMPORAL, or "" where the file does not say. module: its name, as the file has it."""

    part: str
    module: str
    down: Tensor
    up: Tensor
    scale: float


@dataclass(frozen=True)
class LoraFile:
    """made_for: what the file says that it was trained on, or ""."""

    path: Path
    layers: list[Layer]
    made_for: str


def read_lora(path: Path, unet_config: Mapping[str, Any]) -> LoraFile:
    """Raises ModelError for a file that is a pickle, cut short, not finite, no LoRA, or one of a kind that is not
    supported.
    """
    header = checked_header(path)
    for name in header:
        kind = other_kind(name)
        if kind is not None:
            raise ModelError(f"LoRA {path}", expected="LoRA or LoCon layers", got=f"{kind}: {name}")
    with safe_open(path, framework="pt") as opened:
        metadata = dict(opened.metadata() or {})
        tensors = {of_motion_module(name): opened.get_tensor(name).float() for name in header}
    check_finite(tensors, path)
    ours = {name: tensors.pop(name) for name in list(tensors) if OF_TEMPORAL.fullmatch(name)}
    try:
        named, alphas = _in_peft_names(tensors, unet_config)
    except (ValueError, KeyError, IndexError) as error:  # of diffusers' converters, for names that they do not know
        raise _no_lora(path, header) from error
    _add_temporal(ours, named, alphas)
    pairs: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in named.items():
        found = re.fullmatch(r"(.+)\.lora_([AB])(?:\.default)?\.weight", name)
        if found is None:
            raise _no_lora(path, [name])
        pairs[found[1]][found[2]] = tensor
    scales = _scales(metadata, path)
    layers = [_layer(path, name, pair, alphas.get(name), scales) for name, pair in pairs.items()]
    if not layers:
        raise _no_lora(path, header)
    return LoraFile(path, layers, next((metadata[key] for key in BASE_MODEL if metadata.get(key)), ""))


def _in_peft_names(
    tensors: dict[str, Tensor], unet_config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Tensors as `[part.]module.lora_A.weight`, and the alphas that come with them, by `[part.]module`."""
    read = StableDiffusionLoraLoaderMixin.lora_state_dict
    converted, alphas = read(dict(tensors), unet_config=_Config(unet_config))
    of_an_encoder = (f"{TEXT}.", f"{SECOND}.")
    text = {name: tensor for name, tensor in converted.items() if name.startswith(of_an_encoder)}
    rest = {name.removeprefix("base_model.model."): t for name, t in converted.items() if name not in text}
    named = convert_unet_state_dict_to_peft(rest)
    named |= _of_text(text)
    others = {name: alpha for name, alpha in (alphas or {}).items() if not name.startswith(of_an_encoder)}
    of_text = {k.removesuffix(".alpha"): v for k, v in (alphas or {}).items() if k.startswith(of_an_encoder)}
    renamed = convert_unet_state_dict_to_peft(others)
    renamed |= _of_text(of_text)
    return named, {re.split(r"\.lora_A|\.alpha$", name)[0]: float(value) for name, value in renamed.items()}


def _add_temporal(ours: Mapping[str, Tensor], named: dict[str, Tensor], alphas: dict[str, float]) -> None:
    """Adds layers of temporal layers to those that `_in_peft_names` gives."""
    for name, tensor in ours.items():
        place, _, what = name.removeprefix(f"lora_{TEMPORAL}_").partition(".")
        if what == "alpha":
            alphas[f"{TEMPORAL}.{place}"] = float(tensor)
        else:
            named[f"{TEMPORAL}.{place}.{'lora_A' if what.startswith('lora_down') else 'lora_B'}.weight"] = tensor


def _of_text(named: Mapping[str, Any]) -> dict[str, Any]:
    """A text encoder's names as PEFT's: the mapping of diffusers' oldest layout knows those of the later ones, too."""
    return convert_state_dict_to_peft(dict(named), original_type=StateDictType.DIFFUSERS_OLD)


class _Config:
    """A network's configuration as diffusers' converters read it."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.layers_per_block = values["layers_per_block"]


def _scales(metadata: Mapping[str, str], path: Path) -> dict[str, dict[str, Any]]:
    """What PEFT was configured with, by part, where diffusers kept it in the file: it holds the alphas then."""
    if METADATA not in metadata:
        return {}
    try:
        values = json.loads(metadata[METADATA])
        parts: dict[str, dict[str, Any]] = defaultdict(dict)
        for key, value in values.items():
            part, _, name = key.partition(".")
            parts[part][name] = value
        for settings in parts.values():
            float(settings["lora_alpha"])
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ModelError(f"LoRA {path}", expected=f"{METADATA} with lora_alpha", got=metadata[METADATA]) from error
    return parts


def _layer(
    path: Path, name: str, pair: Mapping[str, Tensor], alpha: float | None, scales: Mapping[str, dict[str, Any]]
) -> Layer:
    if pair.keys() != {"A", "B"}:
        raise ModelError(f"LoRA {path}: {name}", expected="its two matrices", got=f"only lora_{next(iter(pair))}")
    down, up = pair["A"], pair["B"]
    rank = down.shape[0]
    if up.ndim < 2 or down.ndim < 2 or up.shape[1] != rank or up.shape[2:].numel() != 1:
        raise ModelError(
            f"LoRA {path}: {name}", expected=f"two matrices of one rank, or 1x1 after {tuple(down.shape)}",
            got=f"{tuple(up.shape)}",
        )  # fmt: skip
    head, _, tail = name.partition(".")
    part, module = (head, tail) if head in (UNET, TEXT, SECOND, TEMPORAL) else ("", name)
    root = False
    if alpha is None and part in scales:
        settings = scales[part]
        pattern = settings.get("alpha_pattern") or {}
        matching = [value for key, value in pattern.items() if re.fullmatch(rf"(.*\.)?({key})", module)]
        alpha, root = float(next(iter(matching), settings["lora_alpha"])), bool(settings.get("use_rslora"))
    scale = 1.0 if alpha is None else alpha / (rank**0.5 if root else rank)
    return Layer(part, module, down, up.flatten(1), scale)


def _no_lora(path: Path, names: Any) -> ModelError:
    example = next(iter(names), "no tensor")
    return ModelError(f"LoRA {path}", expected="tensors of kohya's, diffusers' or PEFT's LoRA layouts", got=example)

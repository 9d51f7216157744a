"""Applies LoRA files to a model that was just loaded, by adding what they change to its weights.

W + sum_i weight_i scale_i B_i A_i is computed once, in float32, and kept in the weights' own precision. Everything that
runs a model after that (attention, plans, offloading, compilation, temporal layers) sees a network as it knows it, at
its usual speed; in return a LoRA's weight is not changed without loading the model anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor, nn

from shared.errors import ModelError
from shared.models.adapters.layers import SECOND, TEMPORAL, TEXT, UNET, Layer, LoraFile, read_lora
from shared.models.prompts.text import TextEncoder
from shared.recipe import weighted_file

NAMED = 3  # modules that a message names
ALONE: Mapping[str, nn.Module] = {}


@torch.no_grad()
def fuse_loras(
    model: str,
    unet: UNet2DConditionModel,
    encoders: Sequence[TextEncoder],
    files: Sequence[str],
    *,
    beside: Mapping[str, nn.Module] = ALONE,
) -> list[str]:
    """Adds LoRAs, FILE or FILE:WEIGHT, to the networks' weights, in place. model: its name, for messages. encoders: of
    text, one or two. beside: networks that make clips of it, by the part that files count them to: temporal layers
    TEMPORAL, AnimateDiff's motion modules UNET.

    Returns what to tell of files of which only a part fits. Raises ModelError as `read_lora` does, and for a file of
    which nothing fits, or that is made for another architecture.
    """
    known = {UNET: _modules(unet)}
    known |= {part: _modules(encoder) for part, encoder in zip((TEXT, SECOND), encoders, strict=False)}
    for part, network in beside.items():
        known[part] = known.get(part, {}) | _modules(network)
    changes: dict[nn.Module, Tensor] = {}
    notes = []
    for path, weight in map(weighted_file, files):
        read = read_lora(Path(path), unet.config)
        unknown = []
        for layer in read.layers:
            module = _target(layer, known)
            if module is None:
                unknown.append(f"{layer.part}.{layer.module}".lstrip("."))
                continue
            change = weight * _change(read, layer, module, model)
            changes[module] = changes[module] + change if module in changes else change
        if len(unknown) == len(read.layers):
            raise ModelError(
                f"LoRA {path}", expected=f"layers of model {model}",
                got=f"{len(unknown)} layers, none of which fits, such as {unknown[0]}{_says(read)}",
                hint=_hint(unknown[0]),
            )  # fmt: skip
        if unknown:
            notes.append(_partly(path, unknown, len(read.layers), model))
    for module, change in changes.items():
        own = module.weight
        assert isinstance(own, Tensor)
        own.copy_(own.float() + change.to(own.device))
    return notes


def _modules(network: nn.Module) -> dict[str, nn.Module]:
    """Linear layers and convolutions by their names without dots, in which kohya's layout does not tell them from _."""
    found = {name: m for name, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    return {_flat(name): module for name, module in found.items()}


def _target(layer: Layer, known: dict[str, dict[str, nn.Module]]) -> nn.Module | None:
    """The module that a layer changes; None where the model has none of its name."""
    parts: Iterable[str] = (layer.part,) if layer.part else (UNET, TEXT)
    names = (_flat(layer.module), _flat(layer.module.removeprefix("text_model.")), f"text_model_{_flat(layer.module)}")
    return next((known[p][name] for p in parts for name in names if p in known and name in known[p]), None)


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _change(read: LoraFile, layer: Layer, module: nn.Module, model: str) -> Float[Tensor, "..."]:
    """scale B A, shaped as the module's weight. Raises ModelError where it has another shape."""
    shape = tuple(module.weight.shape)  # type: ignore[arg-type]
    product = (layer.up @ layer.down.flatten(1)).reshape(len(layer.up), *layer.down.shape[1:])
    ones = (1,) * abs(product.ndim - len(shape))  # a linear layer may stand for a convolution of 1x1
    if (*product.shape, *ones) != shape and tuple(product.shape) != (*shape, *ones):
        raise ModelError(
            f"LoRA {read.path}: {layer.part or UNET}.{layer.module}",
            expected=f"a change of {_size(shape)}, as model {model} has",
            got=f"one of {_size(tuple(product.shape))}{_says(read)}",
            hint="It was made for a model of another architecture",
        )
    return layer.scale * product.reshape(shape)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _says(read: LoraFile) -> str:
    return f"; it says that it is for {read.made_for}" if read.made_for else ""


def _hint(unknown: str) -> str:
    """Where a layer belongs that the model does not have."""
    if "motion_modules" in unknown:
        return "It is a motion LoRA of AnimateDiff: for clips with --motion-adapter"
    return "It is for clips of a model with temporal layers" if unknown.startswith(TEMPORAL) else ""


def _partly(path: str, unknown: list[str], count: int, model: str) -> str:
    named = ", ".join(unknown[:NAMED]) + (f" and {len(unknown) - NAMED} more" * (len(unknown) > NAMED))
    return f"of the {count} layers in {path}, {len(unknown)} are not in model {model} and do nothing: {named}"

"""LoRA files (Hu et al. 2021) by their header: rank, and what they were made for, as far as names and shapes tell.

A layer's change is up @ down, "out r" times "r in": the rank r is the number of rows of `down`. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ModelError
from shared.models.adapters.recipe import other_kind
from shared.models.layouts.family import SD1, SD2, XL, Header
from shared.models.weight_files import read_entries

DOWN = re.compile(r"(.+?)[._](lora_down|lora_A|lora\.down|lora_linear_layer\.down)(\.\w+)?\.weight")
TEXT_KEYS = re.compile(r"attn2[._]to_k$")  # what makes keys of the text: as wide as the text encoder's states
BY_WIDTH = {768: SD1, 1024: SD2, 2048: XL}
BY_NAME = (
    (re.compile(r"^lora_temporal_"), "Kinoform's temporal layers"),
    (re.compile(r"motion_modules"), "AnimateDiff"),
    (re.compile(r"double_blocks|single_transformer_blocks"), "Flux"),
    (re.compile(r"joint_(transformer_)?blocks"), "Stable Diffusion 3"),
    (re.compile(r"(^|[._])blocks[._]\d+[._](self_attn|cross_attn)[._]"), "Wan"),
    (re.compile(r"lora_te2_|text_encoder_2\."), XL),
)
UNLIKE = ("Flux", "Stable Diffusion 3", "Wan")  # whose networks are no UNets
SAID = ("modelspec.architecture", "ss_base_model_version")
TEXT_ENCODER = re.compile(r"^(lora_te|text_encoder|te\d?[._])")


@dataclass(frozen=True)
class Lora:
    """kind: "LoRA", or a relative of it. ranks: all that occur, sorted; none for relatives that have no such number.

    target: the architecture; None where nothing tells. changes: of each network how many of its layers.
    """

    kind: str
    ranks: tuple[int, ...]
    target: str | None
    changes: dict[str, int]


def lora_of(header: Header, metadata: Mapping[str, str]) -> Lora | None:
    """None for a file that is none."""
    downs = {match[1]: header[name] for name in header if (match := DOWN.fullmatch(name))}
    relative = next((kind for name in header if (kind := other_kind(name))), None)
    if not downs and relative is None:
        return None
    kind = relative or "LoRA"
    layers = list(downs) or sorted({name.rpartition(".")[0] for name in header})
    text = sum(1 for layer in layers if TEXT_ENCODER.match(layer))
    changes = {"denoiser": len(layers) - text, "text encoder": text}
    ranks = sorted({shape[0] for shape in downs.values() if shape})
    return Lora(kind, tuple(ranks), _target(downs, layers, metadata), {part: n for part, n in changes.items() if n})


def check_target(file: Path, model: str, width: int) -> None:
    """Refuse a LoRA that is for another architecture than a UNet of Stable Diffusion whose text is `width` wide.

    Raises ModelError, naming both. What neither names nor shapes tell passes.
    """
    entries, metadata = read_entries(file)
    lora = lora_of({name: entry.shape for name, entry in entries.items()}, metadata)
    target, own = None if lora is None else lora.target, BY_WIDTH.get(width)
    if target is None or target == own:
        return
    if target in UNLIKE or (own is not None and target in BY_WIDTH.values()):
        raise ModelError(
            f"LoRA {file}", expected=f"one for {own or f'a UNet with text of width {width}'}, as model {model} is",
            got=f"one for {target}",
        )  # fmt: skip


def _target(downs: Header, layers: list[str], metadata: Mapping[str, str]) -> str | None:
    for pattern, name in BY_NAME:
        if any(pattern.search(layer) for layer in layers):
            return name
    widths = {shape[1] for layer, shape in downs.items() if TEXT_KEYS.search(layer) and len(shape) > 1}
    if len(widths) == 1 and (width := widths.pop()) in BY_WIDTH:
        return BY_WIDTH[width]
    return next((metadata[key] for key in SAID if metadata.get(key)), None)

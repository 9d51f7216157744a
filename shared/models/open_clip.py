"""Folders as open_clip keeps a CLIP, `open_clip_config.json` beside its weights, in the terms of transformers' CLIP.

Read are vision transformers with open_clip's own text transformer, in whatever sizes; the package itself is not needed.
What else there is (timm's networks, ResNets, CoCa, text encoders of transformers, other pooling) is refused by name, by
any key of the configuration that changes what comes out. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import ModelError
from shared.models.weight_files import PICKLES, read_json

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's
# What each part of the configuration may say, and what it means where it does not.
MODEL: dict[str, Any] = {"embed_dim": 512, "vision_cfg": {}, "text_cfg": {}, "quick_gelu": False}
VISION = {"layers": 12, "width": 768, "head_width": 64, "mlp_ratio": 4.0, "patch_size": 16, "image_size": 224}
TEXT = {"layers": 12, "width": 512, "heads": 8, "mlp_ratio": 4.0, "context_length": 77, "vocab_size": 49408}
# Of other keys, what changes nothing, as does any that is off: false, null, 0. Patches are dropped in training alone.
AS_USUAL = {"pool_type": ("tok", "argmax"), "pos_embed_type": ("learnable",), "proj_type": ("linear",)}
IN_TRAINING = {"patch_dropout", "init_logit_scale"}
RESIZE_MODES = ("shortest", "squash")
RESAMPLING = {"bicubic": 3, "bilinear": 2, "random": 3}  # Pillow's numbers; random is of training, then bicubic


@dataclass(frozen=True)
class OpenClip:
    """A folder of open_clip's. config: the arguments of transformers' CLIPConfig, without the tokens of the tokenizer.
    processor: those of its image processor."""

    file: Path
    config: Mapping[str, Any]
    processor: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> OpenClip:
        """Raises ModelError for weights that are pickled or not there, and for an architecture that is not read."""
        place, whole = folder / CONFIG, read_json(folder / CONFIG)
        model = _object(place, "model_cfg", whole.get("model_cfg"))
        vision = _known(place, "vision_cfg", model.get("vision_cfg"), VISION)
        text = _known(place, "text_cfg", model.get("text_cfg"), TEXT)
        model = _known(place, "model_cfg", model, MODEL)
        activation = {"hidden_act": "quick_gelu" if model["quick_gelu"] else "gelu"}
        heads = vision["width"] // vision["head_width"]
        seen = {key: vision[key] for key in ("patch_size", "image_size")}
        told = {"vocab_size": text["vocab_size"], "max_position_embeddings": text["context_length"]}
        config = {
            "vision_config": {**_tower(place, vision, heads), **activation, **seen},
            "text_config": {**_tower(place, text, text["heads"]), **activation, **told},
            "projection_dim": model["embed_dim"],
        }
        return cls(weights_of(folder), config, _processor(place, whole.get("preprocess_cfg", {}), vision["image_size"]))


def is_open_clip(folder: Path) -> bool:
    """Whether a folder is open_clip's, and not just as well a CLIP of transformers, with weights by its names."""
    if not (folder / CONFIG).is_file():
        return False
    other = folder / "config.json"
    whole = other.is_file() and read_json(other).get("model_type") == "clip"
    return not (whole and any(folder.glob("model*.safetensors*")))


def weights_of(folder: Path) -> Path:
    """The file of its weights. Raises ModelError for a pickle, or none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    pickled = min((file.name for file in folder.iterdir() if file.suffix in PICKLES), default=None)
    got = "none" if pickled is None else f"{pickled}, a pickle, which can run code when it is opened"
    hint = "" if pickled is None else f"kinoform convert {folder / pickled} {folder / WEIGHTS[0]}"
    raise ModelError(f"weights in {folder}", expected=WEIGHTS[0], got=got, hint=hint)


def _object(place: Path, part: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ModelError(f"{part} in {place}", expected="an object", got=given)
    return given


def _known(place: Path, part: str, given: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A part of the configuration with its defaults. Raises ModelError for what makes another architecture of it."""
    for key, value in _object(place, part, given).items():
        usual = key in defaults or key in IN_TRAINING or not value or value in AS_USUAL.get(key, ())
        if not usual or (key == "layers" and isinstance(value, list)):
            raise ModelError(
                f"{part} in {place}", expected="a vision transformer and text transformer of open_clip itself",
                got=f"a ResNet of {value} layers" if key == "layers" else f"{key} {value}",
                hint="Others run in open_clip alone",
            )  # fmt: skip
    known = {**defaults, **{key: value for key, value in given.items() if key in defaults}}
    for key, default in defaults.items():
        allowed = {int: (int,), float: (int, float)}.get(type(default))
        if allowed and (type(known[key]) not in allowed or not 0 < known[key] < math.inf):
            number = "a whole number" if allowed == (int,) else "a number"
            raise ModelError(f"{part} {key} in {place}", expected=f"{number} above 0", got=known[key])
    return known


def _tower(place: Path, part: Mapping[str, Any], heads: int) -> dict[str, Any]:
    width = part["width"]
    if not heads or width % heads:
        raise ModelError(f"model {place}", expected="heads of equal width", got=f"{heads} of {width} together")
    return {
        "hidden_size": width,
        "intermediate_size": int(width * part["mlp_ratio"]),
        "num_hidden_layers": part["layers"],
        "num_attention_heads": heads,
    }


def _processor(place: Path, given: Any, side: int) -> dict[str, Any]:
    """What pictures go through; `size` in it is the network's own, as in open_clip."""
    given = _object(place, "preprocess_cfg", given)
    mode, filtered = given.get("resize_mode") or RESIZE_MODES[0], given.get("interpolation") or "bicubic"
    for key, value, allowed in (
        ("mode", given.get("mode", "RGB"), ("RGB",)),
        ("resize_mode", mode, RESIZE_MODES),
        ("interpolation", filtered, tuple(RESAMPLING)),
    ):
        if value not in allowed:
            raise ModelError(f"preprocess_cfg {key} in {place}", expected=" or ".join(allowed), got=value)
    found = {}
    for key, default, above in (("mean", MEAN, -math.inf), ("std", STD, 0.0)):
        values = given.get(key, default)
        numbers = isinstance(values, (list, tuple)) and all(isinstance(value, (int, float)) for value in values)
        if not numbers or len(values) != 3 or not all(above < value < math.inf for value in values):
            raise ModelError(f"preprocess_cfg {key} in {place}", expected="three numbers, one a colour", got=values)
        found[f"image_{key}"] = list(values)
    square = {"height": side, "width": side}
    shortest = mode == "shortest"
    return {
        **found,
        "size": {"shortest_edge": side} if shortest else square,
        "crop_size": square,
        "do_center_crop": shortest,
        "resample": RESAMPLING[filtered],
    }

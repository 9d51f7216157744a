"""The keys with which a recipe changes its model by files, and what is checked of these at once. No torch here.

Adapters add to a model; a part stands in the place of the model's own.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from shared.errors import ModelError
from shared.models.weight_files import INDEX, PICKLES, check_gguf, named_files, read_header, weight_files, weights_of
from shared.recipe import WEIGHTS, Recipe, input_file, input_files, weighted_file

PARTS = ("vae", "unet", "transformer", "transformer_2")  # the last of clips alone
KEYS = ("lora", "embeddings", *PARTS, "motion_adapter")  # the last, too
OTHER_KINDS = (  # relatives of LoRA, by what their tensors are called
    (re.compile(r"\.(dora_scale|lora_magnitude_vector)\b"), "DoRA"),
    (re.compile(r"\.hada_"), "LoHa"),
    (re.compile(r"\.lokr_"), "LoKr"),
    (re.compile(r"\.oft_"), "OFT"),
    (re.compile(r"\.lora_mid\b"), "a CP decomposition"),
    (re.compile(r"\.lora_B\.(\w+\.)?bias$"), "changes of biases"),
    (re.compile(r"\.diff(_b)?$"), "whole differences"),
)


class Adapted(Recipe):
    """For everything that runs an image model, alone or in a larger one."""

    lora: tuple[str, ...] = Field(
        (), description="a LoRA, FILE or FILE:0.7 for less of it", json_schema_extra=input_files()
    )
    embeddings: tuple[str, ...] = Field(
        (), description="a file of words learned by textual inversion", json_schema_extra=input_files()
    )

    vae: str | None = Field(
        None,
        min_length=1,
        description="another autoencoder than the model's: its folder of diffusers, or a file",
        json_schema_extra=input_file(WEIGHTS),
    )
    unet: str | None = Field(
        None,
        min_length=1,
        description="another UNet than the model's: its folder of diffusers, or a file",
        json_schema_extra=input_file(WEIGHTS),
    )
    transformer: str | None = Field(
        None,
        min_length=1,
        description="another transformer than the model's: its folder of diffusers, or a file",
        json_schema_extra=input_file(WEIGHTS),
    )

    @property
    def brings(self) -> tuple[str, ...]:
        """Components of a model folder whose place its files take."""
        return tuple(key for key in PARTS if getattr(self, key, None) is not None)

    def files(self) -> dict[str, str]:
        """Also the shards of a part, "KEY.0" and so on beside their index. Raises ModelError where any is missing."""
        found = super().files()
        for key in self.brings:
            if key in found and INDEX.search(found[key]) and Path(found[key]).is_file():
                found |= {f"{key}.{i}": str(shard) for i, shard in enumerate(named_files(Path(found[key])))}
        return found

    @field_validator(*PARTS, check_fields=False)
    @classmethod
    def _file_of_a_part(cls, value: str | None) -> str | None:
        return file_of_folder(value, shards=True)

    @field_validator("lora", "embeddings", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("lora")
    @classmethod
    def _have_weights(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            file, weight = weighted_file(text)
            if not file.strip() or not math.isfinite(weight):
                raise PydanticCustomError("weighted_file", "FILE, or FILE:WEIGHT such as style.safetensors:0.7")
        return value

    @field_validator("embeddings")
    @classmethod
    def _have_no_weights(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(text.strip() and weighted_file(text)[0] == text for text in value):
            raise PydanticCustomError("plain_file", "FILE, without a weight")
        return value


def adapters_of(recipe: Any) -> dict[str, tuple[str, ...]]:
    """The adapters that a recipe of any kind names, by its keys; none of a recipe that is not `Adapted`."""
    if not isinstance(recipe, Adapted):
        return {}
    named = {key: value for key in KEYS if (value := getattr(recipe, key, ()))}
    return {key: (value,) if isinstance(value, str) else value for key, value in named.items()}


def weighing(recipe: Any) -> dict[str, Any]:
    """Those of `adapters_of` that change what a model takes: not LoRAs and words."""
    return {key: files for key, files in adapters_of(recipe).items() if key not in ("lora", "embeddings")}


def file_of_folder(path: str | None, *, shards: bool = False) -> str | None:
    """A folder's one file of weights, or (shards) the index of several; a path that is no folder as it is."""
    if path is None or not Path(path).is_dir():
        return path
    files = weight_files(Path(path))
    if len(files) == 1:
        return str(files[0])
    if not shards:
        raise ValueError("a folder with one file of weights")
    return str(weights_of(Path(path)))


def check_adapters(recipe: Any) -> None:
    """Raises ModelError for an adapter's file that is a pickle, cut short, or no safetensors file."""
    for key, texts in adapters_of(recipe).items():
        for text in texts:
            file = Path(weighted_file(text)[0])
            if key in PARTS and file.suffix == ".gguf":
                check_gguf(file)
            elif key in PARTS:
                for each in named_files(file):
                    checked_header(each, key)
            else:
                checked_header(file)


def other_kind(name: str) -> str | None:
    """Which relative of LoRA a tensor of this name belongs to; None for none that is known."""
    return next((kind for mark, kind in OTHER_KINDS if mark.search(name)), None)


def checked_header(file: Path, what: str = "adapter") -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's tensors. what: it is, in messages. Raises ModelError as `check_adapters` does."""
    if file.suffix in PICKLES:
        raise ModelError(
            f"{what} {file}",
            expected="a .safetensors file",
            got="a pickle, which can run code when it is opened",
            hint="Fetch it as safetensors: most are published as such",
        )
    return read_header(file)

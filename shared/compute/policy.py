"""How much memory a run may take, and what it gives in exchange: one policy for pictures, clips and assets.

Recipes take over the parts that mean something for them as plain fields, so that each is a YAML key and a flag:

NetworkMemory    everything that runs a model's networks.
DecodeMemory     what ends in pixels: pictures and clips.
GradientMemory   what differentiates a network: assets and trainings.

`MemoryPolicy` is all three; `recipe.memory` gives it. What the fields do is in `shared.compute.modes` and
`shared.latents.decoding`. Imports no torch. The defaults on a CPU are what runs without any policy, bit for bit.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from pydantic import Field

from shared.errors import InputError
from shared.recipe import Recipe, same_result

QUANTIZERS = {"int8": "torchao", "float8": "torchao", "nf4": "bitsandbytes"}


class NetworkMemory(Recipe):
    """For everything that runs a model's networks."""

    precision: Literal["auto", "fast", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="what networks compute in; auto is bf16 on a GPU, fp32 elsewhere; fast is bf16 on a CPU, too, that "
        "has instructions for it",
    )
    quantization: Literal["none", "int8", "float8", "nf4"] = Field(
        "none",
        description="weights of the denoising network and of text encoders in fewer bits: int8 or float8 (torchao), or "
        "nf4, of 4 bits (bitsandbytes)",
    )
    offload: Literal["none", "model", "group"] = Field(
        "none",
        description="keep idle networks (model) or layers (group) in main memory; needs a GPU",
        json_schema_extra=same_result("where weights wait"),
    )
    channels_last: bool = Field(
        False,
        description="lay pictures out with their channels last",
        json_schema_extra=same_result("the order of numbers in memory"),
    )
    compile: bool = Field(
        False,
        description="compile the denoising network: a slow start, then faster",
        json_schema_extra=same_result("the same operations, fused"),
    )

    @property
    def memory(self) -> MemoryPolicy:
        """The policy; parts that the recipe does not have are at their defaults."""
        mine = type(self).model_fields
        return MemoryPolicy(**{name: getattr(self, name) for name in MemoryPolicy.model_fields if name in mine})

    def check_device(self, kind: str) -> None:
        """Raises InputError where a device of this kind ("cpu", "cuda") cannot do what is asked for, or a package that
        it needs is not there."""
        if self.offload != "none" and kind != "cuda":
            raise InputError(
                "offload", expected="none without a GPU", got=self.offload, hint="There is no GPU memory to save"
            )
        package = QUANTIZERS.get(self.quantization)
        if package and find_spec(package) is None:
            raise InputError(
                f"quantization {self.quantization}", expected=f"the package {package}", got="none",
                hint=f"Try: pip install 'kinoform[{package}]'",
            )  # fmt: skip
        if package and self.offload == "group":
            raise InputError(
                "offload", expected="none or model with quantized weights", got="group", hint="Try --offload model"
            )


class DecodeMemory(Recipe):
    """For what ends in pixels."""

    decode: Literal["auto", "whole", "sliced", "tiled"] = Field(
        "auto",
        description="latents to pixels all at once, some pictures at a time, or by tiles",
        json_schema_extra=same_result("the same pictures, by parts; tiles see less of what is around them"),
    )
    decode_frames: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="pictures decoded at once; as many as are sure to fit where not given",
        json_schema_extra=same_result("the same pictures, by parts"),
    )


class GradientMemory(Recipe):
    """For what differentiates a network."""

    checkpointing: bool = Field(
        False,
        description="compute activations again for gradients: less memory, about a third slower",
        json_schema_extra=same_result("the same activations, twice"),
    )


class MemoryPolicy(NetworkMemory, DecodeMemory, GradientMemory):
    """All of it. Frozen; equal policies mean equal memory and equal results."""

"""Networks in GGUF files, whose tensors stay quantised: read by diffusers, with the package `gguf`.

A quantised tensor (GGUFParameter) holds blocks of bytes; `quant_shape` is the shape of the numbers in them, which
diffusers' linear layers work out each time they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.diffusion.schedulers import silent
from shared.errors import ModelError, one_line
from shared.models.weight_files import GGUF, check_gguf
from shared.models.weights import check_finite


def gguf_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names in it, quantised as they are stored; F32 and F16 as plain ones.

    Raises ModelError for a file that is broken, a kind of quantisation that diffusers does not know, and without the
    package.
    """
    check_gguf(file)
    try:
        from diffusers.models.model_loading_utils import load_gguf_checkpoint

        return dict(load_gguf_checkpoint(str(file)))
    except ImportError as error:
        hint = "Try: pip install 'kinoform[gguf]'"
        raise ModelError(f"weights {file}", expected=f"the package gguf, for {GGUF}", got="none", hint=hint) from error
    except Exception as error:  # whatever a broken file makes the library stumble over
        raise ModelError(f"weights {file}", expected="a whole GGUF file", got=one_line(str(error))) from error


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """Of the numbers that a tensor stands for, quantised or not."""
    return tuple(getattr(tensor, "quant_shape", tensor.shape))


def is_quantised(tensor: Tensor) -> bool:
    return hasattr(tensor, "quant_type")


def plain_but_linear(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with numbers in place of blocks wherever a layer other than a linear one has them."""
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    linear = {f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}
    return {
        name: dequantize_gguf_tensor(tensor) if is_quantised(tensor) and name not in linear else tensor
        for name, tensor in tensors.items()
    }


def check_blocks(tensors: Mapping[str, Tensor], file: Path, device: str | torch.device) -> None:
    """Raises ModelError where a quantised tensor stands for NaN or infinity, as one does whose scales are none or too
    large: its numbers are worked out as layers do, a tensor at a time. device: where.
    """
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    for name, tensor in tensors.items():
        if is_quantised(tensor):
            check_finite({name: dequantize_gguf_tensor(tensor.to(device))}, file)


def quantised(network_class: Any, tensors: dict[str, Tensor], config: Path, dtype: torch.dtype) -> Any:
    """A network of a class with these tensors, by its own names; it computes in `dtype`. config: its folder."""
    from diffusers import GGUFQuantizationConfig

    with silent():  # it tells of every layer that stays in float32
        return network_class.from_single_file(
            tensors, config=str(config), quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
            torch_dtype=dtype, local_files_only=True,
        )  # fmt: skip

"""Weights in fewer bits: linear layers of a loaded network are quantised in place and worked out each time they run.

int8      a whole number of 8 bits, and a scale a row (torchao)
float8    a float of 8 bits (4 of them exponent), and a scale a row (torchao)
nf4       one of 16 quantiles of a normal distribution and a scale every 64 weights (Dettmers et al. 2023, "QLoRA",
          section 3; bitsandbytes)

All of them change weights alone: what comes out is what the rounded weights give, in the precision of the network, and
does not depend on what else is in the batch, as it would with the outliers of LLM.int8() (Dettmers et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Parts of a pipeline of diffusers, by their names.
QUANTISED = ("unet", "transformer", "transformer_2", "prior", "text_encoder", "text_encoder_2", "text_encoder_3")
BLOCK = 64  # weights of nf4 with one scale
SCALE = 4  # bytes


def is_quantised(weight: Tensor) -> bool:
    """Whether it is a tensor of torchao's, which stands for the numbers of `weight.dequantize()`."""
    return type(weight).__module__.startswith("torchao.")


def quantised_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """The layers that are quantised, by their names: linear ones, but for those that the class of the network wants in
    float32, what makes words of features, and what is no plain linear layer, such as one that is quantised already."""
    of_class = ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
    kept = {part for key in of_class for part in getattr(network, key, None) or ()}
    find_head: Any = getattr(network, "get_output_embeddings", lambda: None)
    head = find_head()
    return {
        name: layer
        for name, layer in network.named_modules()
        if type(layer) is nn.Linear
        and not is_quantised(layer.weight)
        and layer is not head
        and not any(f".{part}." in f".{name}." for part in kept)
    }


@torch.no_grad()
def quantise(network: nn.Module, quantization: str, device: str | torch.device | None = None) -> None:
    """Quantises a network's layers, one after the other, each on `device`, where it stays; where it is unless given.

    quantization: of `NetworkMemory`; "none" changes nothing. The package that it wants is there
    (`NetworkMemory.check_device`).
    """
    if quantization == "none":
        return
    for name, layer in quantised_layers(network).items():
        network.set_submodule(name, _quantised(layer.to(device), quantization))


def saved_bytes(networks: Iterable[nn.Module], quantization: str) -> int:
    """How much less these networks take once they are quantised."""
    if quantization == "none":
        return 0
    weights = [layer.weight for network in networks for layer in quantised_layers(network).values()]
    return sum(weight.nbytes - _bytes(weight, quantization) for weight in weights)


def _bytes(weight: Tensor, quantization: str) -> int:
    if quantization == "nf4":
        return weight.numel() // 2 + SCALE * math.ceil(weight.numel() / BLOCK)
    return weight.numel() + SCALE * len(weight)


def _quantised(layer: nn.Linear, quantization: str) -> nn.Module:
    if quantization == "nf4":
        return _four_bits(layer)
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    config = {"int8": Int8WeightOnlyConfig, "float8": Float8WeightOnlyConfig}[quantization]
    quantize_(layer, config(set_inductor_config=False))  # which changes how torch compiles whatever else there is
    return layer.requires_grad_(False)


def _four_bits(layer: nn.Linear) -> nn.Module:
    from bitsandbytes.nn import Linear4bit, Params4bit

    weight, bias = layer.weight, layer.bias
    made: Any = Linear4bit(
        layer.in_features, layer.out_features, bias is not None, compute_dtype=weight.dtype, device="meta"
    )
    made.weight = Params4bit(
        weight.data, requires_grad=False, quant_type="nf4", compress_statistics=False, blocksize=BLOCK, module=made
    ).to(weight.device)
    made.bias = bias
    return made.train(layer.training)

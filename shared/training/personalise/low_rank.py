"""Low-rank layers that are trained, put into networks by peft, and the file that they are kept in.

alpha equals the rank, so that every reader, whatever it knows of alphas, adds the same B A to a weight.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from shared.artifacts.files import write_bytes
from shared.errors import InputError

FILE = "pytorch_lora_weights.safetensors"  # the name that diffusers looks for
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
ALL = [*ATTENTION, "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "conv_shortcut",
       "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv"]  # fmt: skip
LAYERS = {"attention": ATTENTION, "all": ALL}  # of a UNet, by a recipe's key
KOHYA = {"lora_A": "lora_down", "lora_B": "lora_up"}
UNET, TEMPORAL = "lora_unet", "lora_temporal"
TEXT = "lora_te_text_model"  # text encoders had one more level until transformers 5
OF_TEXT = ["q_proj", "k_proj", "v_proj", "out_proj"]


def check_peft() -> None:
    """InputError, with what to install, where peft is not there. Imports nothing.

    It is no package that all need: diffusers imports it at every start where it is there, for a third of a second.
    """
    if importlib.util.find_spec("peft") is None:
        hint = "pip install 'kinoform[lora]'"
        raise InputError("training a LoRA", expected="the package peft", got="none installed", hint=hint)


def add_low_rank(network: nn.Module, rank: int, targets: list[str]) -> nn.ParameterList:
    """New layers beside those of `network` whose names end as `targets` say, in place; they change nothing yet.

    Returns their weights, in a fixed order, in float32. What torch draws of them comes from its global generator.
    Raises InputError where peft is not installed.
    """
    check_peft()
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), network)
    found = [p for name, p in sorted(network.named_parameters()) if ".lora_" in name]
    for parameter in found:
        parameter.data = parameter.data.float()
    return nn.ParameterList(found)


def save_low_rank(folder: Path, parts: Mapping[str, nn.Module], about: Mapping[str, str]) -> None:
    """Write `FILE`. parts: the networks that have layers, by what the file calls them. about: its metadata.

    Names are kohya-ss', which diffusers, ComfyUI and the web interfaces all read; only the first reads its own.
    """
    from peft import get_peft_model_state_dict

    tensors: dict[str, Tensor] = {}
    for part, network in parts.items():
        for name, tensor in get_peft_model_state_dict(network).items():
            module, _, which = name.removesuffix(".weight").rpartition(".")
            place = f"{part}_{module.replace('.', '_')}"
            tensors[f"{place}.{KOHYA[which]}.weight"] = tensor.detach().float().cpu().contiguous()
            if which == "lora_A":
                tensors[f"{place}.alpha"] = torch.tensor(float(len(tensor)))
    write_safetensors(folder / FILE, tensors, {"format": "pt", **about})


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file in equal bytes for equal content: the library leaves the order of metadata to chance."""
    data = save(dict(tensors), dict(metadata))
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(path, len(text).to_bytes(8, "little") + text + data[8 + length :])


def in_full(tensor: Tensor) -> Tensor:
    """As it is kept in files."""
    return torch.atleast_2d(tensor.detach().float().cpu()).contiguous()

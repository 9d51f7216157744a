"""Small LoRAs with random weights, made by peft in stock networks, in the layouts that people's files have."""

import json
from pathlib import Path

import torch
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file

from tests.tiny import tiny_text, tiny_unet

RANK, ALPHA = 3, 2.0
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
EVERYWHERE = [*ATTENTION, "proj_in", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "time_emb_proj", "conv_in"]
OF_TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def peft_layers(network, targets, seed, alpha=ALPHA):
    """Random layers of a network, by PEFT's names."""
    config = LoraConfig(r=RANK, lora_alpha=alpha, target_modules=targets, init_lora_weights=False)
    named = get_peft_model_state_dict(inject_adapter_in_model(config, network))
    torch.manual_seed(seed)
    return {name: torch.randn(tensor.shape) * 0.2 for name, tensor in named.items()}


def random_layers(seed=0, targets=EVERYWHERE):
    """Those of the tiny UNet and of the tiny text encoder."""
    return peft_layers(tiny_unet(), targets, seed), peft_layers(tiny_text()[1], OF_TEXT, seed + 1)


def kohya(folder: Path, unet, text, name="kohya") -> str:
    """As kohya-ss writes it: names with no dot but before what a tensor is, and an alpha for each."""
    made = {}
    for prefix, named in (("lora_unet_", unet), ("lora_te_text_model_", text)):
        for key, tensor in named.items():
            module, _, which = key.removesuffix(".weight").rpartition(".")
            place = prefix + module.replace(".", "_")
            made[f"{place}.{'lora_down' if which == 'lora_A' else 'lora_up'}.weight"] = tensor
            made[f"{place}.alpha"] = torch.tensor(ALPHA)
    return save(folder / f"{name}.safetensors", made)


def diffusers_with_metadata(folder: Path, unet, text) -> str:
    """As diffusers' own training scripts write it today: PEFT's names, alphas in the metadata."""
    about = {f"{part}.{key}": value for part, named in (("unet", unet), ("text_encoder", text))
             for key, value in (("r", RANK), ("lora_alpha", ALPHA), ("target_modules", modules(named)))}  # fmt: skip
    named = {f"unet.{key}": t for key, t in unet.items()} | {f"text_encoder.{key}": t for key, t in text.items()}
    return save(folder / "metadata.safetensors", named, {"lora_adapter_metadata": json.dumps(about)})


def diffusers_scaled(folder: Path, unet, text) -> str:
    """diffusers' names of earlier times, which know no alpha: it is in the weights."""
    scaled = {key: t * (ALPHA / RANK if "lora_B" in key else 1) for key, t in unet.items()}
    of_text = {f"text_model.{key}": t * (ALPHA / RANK if "lora_B" in key else 1) for key, t in text.items()}
    renamed = {key.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): t for key, t in scaled.items()}
    named = {f"unet.{key}": t for key, t in renamed.items()}
    named |= {f"text_encoder.{key}": t for key, t in convert_state_dict_to_diffusers(of_text).items()}
    return save(folder / "scaled.safetensors", named)


def peft_scaled(folder: Path, unet, text) -> str:
    """An adapter as PEFT saves it, of the UNet alone, or with the text encoder's beside it."""
    named = {
        f"base_model.model.{key}": t * (ALPHA / RANK if "lora_B" in key else 1) for key, t in (unet | text).items()
    }
    return save(folder / "adapter_model.safetensors", named)


def modules(named) -> list[str]:
    return sorted({key.partition(".lora_")[0] for key in named})


def save(path: Path, tensors, metadata=None) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return str(path)

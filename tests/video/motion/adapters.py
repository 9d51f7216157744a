"""Motion adapters of random weights for the tiny image model, as diffusers writes them and as AnimateDiff does."""

import re
from pathlib import Path

import torch
from diffusers import MotionAdapter
from safetensors.torch import save_file

from tests.shared.models.adapters.files import ATTENTION, peft_layers, save

# diffusers' names -> AnimateDiff's: the other way round than `video.motion.adapter`, and its own table of it.
ORIGINAL = (
    (".transformer_blocks.", ".temporal_transformer.transformer_blocks."),
    (".attn1.", ".attention_blocks.0."),
    (".attn2.", ".attention_blocks.1."),
    (".norm1.", ".norms.0."),
    (".norm2.", ".norms.1."),
    (".norm3.", ".ff_norm."),
)
OUTER = ("norm", "proj_in", "proj_out")


def tiny_adapter(seed=0, **changes):
    """For `tests.tiny.tiny_unet`, with 8 heads, as single files have; nothing in it starts at zero."""
    torch.manual_seed(seed)
    config = {"block_out_channels": (32, 32), "motion_layers_per_block": 1, "motion_norm_num_groups": 8}
    return MotionAdapter(**{**config, **changes}).eval().requires_grad_(False)


def build_adapter(path, seed=0, **changes):
    """A folder of diffusers."""
    tiny_adapter(seed, **changes).save_pretrained(path)
    return Path(path)


def original_name(name):
    for theirs, ours in ORIGINAL:
        name = name.replace(theirs, ours)
    head, _, tail = name.rpartition(".motion_modules.")
    if "temporal_transformer" not in tail:
        number, last = tail.split(".", 1)
        tail = f"{number}.temporal_transformer.{last}"
    return f"{head}.motion_modules.{tail}"


def original_tensors(adapter):
    """As in `mm_sd_v15_v2`: each attention has its own table of positions."""
    found = {}
    for name, tensor in adapter.state_dict().items():
        if name.endswith("pos_embed.pe"):
            block = original_name(name.removesuffix("pos_embed.pe") + "attn1.to_q").rpartition("0.to_q")[0]
            found |= {f"{block}{number}.pos_encoder.pe": tensor.clone() for number in (0, 1)}
        else:
            found[original_name(name)] = tensor.contiguous()
    return found


def build_motion_lora(folder, seed=5, extra=None, **changes):
    """A motion LoRA by AnimateDiff's names, as its `v2_lora_ZoomIn` is, and by diffusers'; for `tiny_adapter`.

    extra: layers beside it, in PEFT's names.
    """
    made = {name: tensor * 0.5 for name, tensor in peft_layers(tiny_adapter(**changes), ATTENTION, seed).items()}
    stock = {}
    for name, tensor in {**made, **(extra or {})}.items():
        block, place, which = re.fullmatch(r"(.+)\.(to_\w+)(?:\.0)?\.lora_([AB])\.weight", name).groups()
        stock[f"{block}.processor.{place}_lora.{'down' if which == 'A' else 'up'}.weight"] = tensor
    original = {f"module.{original_name(name)}": tensor for name, tensor in stock.items()}
    diffusers = {f"unet.{name}": tensor for name, tensor in stock.items()}
    return {"original": save(folder / "original.safetensors", original),
            "diffusers": save(folder / "diffusers.safetensors", diffusers)}  # fmt: skip


def build_original(path, seed=0, prefix="", extra=None, **changes):
    """A single file. extra: tensors beside it."""
    tensors = original_tensors(tiny_adapter(seed, **changes))
    save_file({**{prefix + name: tensor for name, tensor in tensors.items()}, **(extra or {})}, path)
    return Path(path)

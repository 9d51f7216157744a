"""Motion adapters of random weights for the tiny image model, as diffusers writes them and as AnimateDiff does."""

from pathlib import Path

import torch
from diffusers import MotionAdapter
from safetensors.torch import save_file

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


def build_original(path, seed=0, prefix="", extra=None, **changes):
    """A single file. extra: tensors beside it."""
    tensors = original_tensors(tiny_adapter(seed, **changes))
    save_file({**{prefix + name: tensor for name, tensor in tensors.items()}, **(extra or {})}, path)
    return Path(path)

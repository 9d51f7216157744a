"""Tensors of Stable Diffusion's original layout by their names in diffusers' and transformers' networks; AnimateDiff's.

Names alone, and which rows of a tensor: OpenCLIP keeps the three projections of an attention in one. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from shared.models.layouts.family import UNET
from shared.models.layouts.original import CLIP, FIRST_OF_XL, OPEN_CLIP, PROJECTION, SECOND_OF_XL, TEXT_MODEL, VAE


@dataclass(frozen=True)
class Rows:
    """A tensor of a network: its name there, and which of `parts` equal parts of the stored tensor's rows it is.

    turned: whether rows and columns are changed.
    """

    name: str
    part: int = 0
    parts: int = 1
    turned: bool = False


RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
OPEN_CLIP_ENDS = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
OPEN_CLIP_PICTURE = {  # of its vision transformer: before and after the layers
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
VISUAL = "visual."
OPEN_CLIP_PROJECTIONS = {f"{VISUAL}proj": "visual_projection.weight", PROJECTION: f"{PROJECTION}.weight"}
RESBLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)")
MOTION_MODULE = (  # AnimateDiff's names -> diffusers'
    (".temporal_transformer.", "."),
    (".attention_blocks.0.", ".attn1."),
    (".attention_blocks.1.", ".attn2."),
    (".norms.0.", ".norm1."),
    (".norms.1.", ".norm2."),
    (".ff_norm.", ".norm3."),
)
UNUSED = re.compile(r"(^|\.)(position_ids|logit_scale|text_projection|attn_mask)$")  # of the text encoders


def unet_name(stored: str, layers: int) -> Rows | None:
    """The name in a UNet with `layers` residual blocks a level; None for a tensor that is none of a UNet's."""
    if not stored.startswith(UNET):
        return None
    stem, ending = _split(stored.removeprefix(UNET))
    if stem in ENDS:
        return Rows(f"{ENDS[stem]}.{ending}")
    if match := re.fullmatch(r"middle_block\.([012])\.(.+)", stem):
        return Rows(f"mid_block.{_inside(MIDDLE[match[1]], match[2])}.{ending}")
    if match := re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)", stem):
        side, block, place, rest = match[1], int(match[2]), match[3], match[4]
        level, layer = divmod(block - 1 if side == "input" else block, layers + 1)
        blocks = f"{'down' if side == 'input' else 'up'}_blocks.{level}"
        if rest == "op":
            return Rows(f"{blocks}.downsamplers.0.conv.{ending}")
        if rest == "conv":
            return Rows(f"{blocks}.upsamplers.0.conv.{ending}")
        module = "attentions" if place == "1" else "resnets"
        return Rows(f"{blocks}.{_inside(f'{module}.{layer}', rest)}.{ending}")
    return Rows(stored.removeprefix(UNET))


def of_motion_module(stored: str) -> str:
    """What diffusers calls a tensor of AnimateDiff's; its own names stay."""
    for theirs, ours in MOTION_MODULE:
        stored = stored.replace(theirs, ours)
    return stored.removeprefix("module.")


def vae_name(stored: str, levels: int) -> Rows | None:
    """The name in an autoencoder of `levels` levels; None for a tensor that is none of an autoencoder's."""
    if not stored.startswith(VAE) or stored.startswith(f"{VAE}loss."):
        return None
    name = stored.removeprefix(VAE)
    name = re.sub(r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets.", name)
    name = re.sub(r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0.", name)
    if match := re.fullmatch(r"decoder\.up\.(\d+)\.(block\.|upsample\.)(.+)", name):  # counted the other way round
        module = "resnets." if match[2] == "block." else "upsamplers.0."
        name = f"decoder.up_blocks.{levels - 1 - int(match[1])}.{module}{match[3]}"
    name = re.sub(r"\.mid\.block_([12])\.", lambda match: f".mid_block.resnets.{int(match[1]) - 1}.", name)
    if match := re.fullmatch(r"(encoder|decoder)\.mid\.attn_1\.(\w+)\.(weight|bias)", name):
        return Rows(f"{match[1]}.mid_block.attentions.0.{VAE_ATTENTION.get(match[2], match[2])}.{match[3]}")
    return Rows(name.replace("nin_shortcut", "conv_shortcut").replace(".norm_out.", ".conv_norm_out."))


def text_names(stored: str, layers: int, *, second: bool = False) -> list[Rows]:
    """The names in a CLIP text encoder of `layers` layers; none for what it has no use for. second: of XL's."""
    if second and stored == f"{SECOND_OF_XL}{PROJECTION}":
        return [Rows(f"{PROJECTION}.weight", turned=True)]
    if UNUSED.search(stored):
        return []
    clip = next((prefix for prefix in (CLIP, FIRST_OF_XL) if stored.startswith(prefix)), None)
    if clip is not None:
        return [] if second else [Rows(stored.removeprefix(clip).removeprefix(TEXT_MODEL))]
    prefix = SECOND_OF_XL if second else OPEN_CLIP
    if not stored.startswith(prefix):
        return []
    name = stored.removeprefix(prefix)
    match = RESBLOCK.fullmatch(name)
    if match and int(match[1]) == layers:  # the last one: Stable Diffusion 2 takes the states before it
        return []
    return _in_tower(name, OPEN_CLIP_ENDS)


def open_clip_names(stored: str) -> list[Rows]:
    """The places in transformers' CLIPModel of a tensor of a whole open_clip model; those that have none stay."""
    if stored in OPEN_CLIP_PROJECTIONS:
        return [Rows(OPEN_CLIP_PROJECTIONS[stored], turned=True)]
    if stored == "logit_scale":
        return [Rows(stored)]
    picture = stored.startswith(VISUAL)
    found = _in_tower(stored.removeprefix(VISUAL), OPEN_CLIP_PICTURE if picture else OPEN_CLIP_ENDS)
    return [replace(rows, name=f"{'vision_model' if picture else 'text_model'}.{rows.name}") for rows in found]


def _in_tower(name: str, ends: Mapping[str, str]) -> list[Rows]:
    """The places in a transformer of CLIP of an open_clip tensor."""
    match = RESBLOCK.fullmatch(name)
    if match is None:
        return [Rows(ends.get(name, name))]
    layer, rest, ending = f"encoder.layers.{match[1]}", match[2], match[3]
    if rest == "attn.in_proj":
        return [Rows(f"{layer}.self_attn.{q}_proj.{ending}", part, 3) for part, q in enumerate("qkv")]
    return [Rows(f"{layer}.{OPEN_CLIP_LAYER.get(rest, rest)}.{ending}")]


def translated(header: Mapping[str, object], component: str, depth: int) -> Iterator[tuple[str, Rows]]:
    """Every stored tensor of a component ("unet", "vae", "text_encoder", "text_encoder_2") with its place there.

    depth: the residual blocks a level of the UNet, the levels of the autoencoder, the layers of the text encoder.
    """
    for stored in header:
        if component.startswith("text_encoder"):
            yield from ((stored, rows) for rows in text_names(stored, depth, second=component.endswith("_2")))
        else:
            rows = unet_name(stored, depth) if component == "unet" else vae_name(stored, depth)
            if rows is not None:
                yield stored, rows


def _inside(module: str, rest: str) -> str:
    return f"{module}.{RESIDUAL.get(rest, rest) if module.startswith('resnets') else rest}"


def _split(name: str) -> tuple[str, str]:
    stem, _, ending = name.rpartition(".")
    return stem, ending

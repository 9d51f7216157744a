"""Which architecture a single file holds, by the names and shapes in its header. Imports no torch.

The telling tensors are those that diffusers tells its single files by; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shared.errors import ModelError

Header = Mapping[str, tuple[int, ...]]  # shapes of tensors by name

UNET = "model.diffusion_model."
SD1, SD2, XL = "Stable Diffusion 1", "Stable Diffusion 2", "Stable Diffusion XL"
SUPPORTED = (SD1, SD2, XL)
TEXTS = {XL: (("first text encoder", "conditioner.embedders.0."), ("second text encoder", "conditioner.embedders.1."))}
UNKNOWN = "an unknown architecture"
# Families of which a file takes the place of the transformer of a diffusers folder, which has what is not in the file.
TRANSFORMERS = frozenset(
    {"Stable Diffusion 3", "Flux", "Flux 2", "Flux 3", "Chroma", "LTX-2", "LTX-Video", "Mochi 1", "HunyuanVideo"}
    | {"AuraFlow", "Z-Image", "Lumina 2", "Sana", "Wan", "HiDream", "Cosmos", "Qwen-Image"}
)
PART = "Name the diffusers folder that has its other parts, and the file as one: --model FOLDER --transformer FILE, "
PART += "or --vae FILE"
MOTION = "an AnimateDiff motion module"
MOVE = "Name the image model that it is to move, and the file as one: kinoform clip --model MODEL --motion-adapter FILE"
CONVERT = "Kinoform takes this one as a diffusers folder alone: DiffusionPipeline.from_single_file(FILE)"
CONVERT += ".save_pretrained(FOLDER) makes one"

# In this order; each but the first two is named by any one of its tensors, with or without the UNet's prefix.
TELLING: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Playground 2.5", ("edm_mean",)),
    (XL, ("conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias",)),
    ("the refiner of Stable Diffusion XL", ("conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias",)),
    (XL, ("label_emb.0.0.weight",)),
    ("a ControlNet", ("control_model.time_embed.0.weight", "controlnet_cond_embedding.conv_in.weight")),
    ("Stable Cascade", ("clip_txt_mapper.weight", "down_blocks.1.0.channelwise.0.weight")),
    ("Stable Diffusion 3", ("joint_blocks.0.context_block.adaLN_modulation.1.bias",)),
    (
        MOTION,
        ("down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe",),
    ),
    ("Flux 2", ("single_stream_modulation.lin.weight",)),
    ("Flux 3", ("early_stream_modulations.image.lin.weight",)),
    ("Chroma", ("distilled_guidance_layer.in_proj.bias",)),
    ("Flux", ("double_blocks.0.img_attn.norm.key_norm.scale",)),
    ("LTX-2", ("av_ca_a2v_gate_adaln_single.emb.timestep_embedder.linear_1.weight",)),
    ("LTX-Video", ("patchify_proj.weight", "vae.decoder.last_scale_shift_table")),
    ("Mochi 1", ("blocks.0.attn.qkv_x.weight",)),
    ("HunyuanVideo", ("txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias",)),
    ("AuraFlow", ("double_layers.0.attn.w2q.weight",)),
    ("Z-Image", ("layers.0.adaLN_modulation.0.weight",)),
    ("Lumina 2", ("cap_embedder.0.weight",)),
    ("Sana", ("blocks.0.cross_attn.q_linear.weight",)),
    ("Wan", ("head.modulation", "decoder.middle.0.residual.0.gamma")),
    ("HiDream", ("double_stream_blocks.0.block.adaLN_modulation.1.bias",)),
    ("Cosmos", ("net.x_embedder.proj.1.weight",)),
    ("Qwen-Image", ("txt_in.text_norm.weight",)),
)


def family_of(header: Header) -> str:
    """SD1, SD2, the name of another architecture, or UNKNOWN."""
    for name, telling in TELLING:
        if any(f"{prefix}{tensor}" in header for tensor in telling for prefix in ("", UNET)):
            inpaints = name == XL and header.get(f"{UNET}input_blocks.0.0.weight", (0, 0))[1] == 9
            return f"{name} for inpainting" if inpaints else name
    context = _context_width(header)
    if context is None:
        return UNKNOWN
    family = SD2 if len(header.get(f"{UNET}input_blocks.1.1.proj_in.weight", ())) == 2 else SD1
    channels = header.get(f"{UNET}input_blocks.0.0.weight", (0, 0))[1]
    if f"{UNET}label_emb.weight" in header:
        return "the upscaler of Stable Diffusion"
    return {9: f"{family} for inpainting", 8: "InstructPix2Pix", 5: f"{family} with depth"}.get(channels, family)


def check_single_file(file: Path, header: Header) -> str:
    """The family of a file that is loaded as it is. Raises ModelError, naming it, for any other, and for a part."""
    family = family_of(header)
    if family == UNKNOWN:
        raise ModelError(
            f"model {file}",
            expected=f"a whole Stable Diffusion checkpoint, with tensors {UNET}*",
            got=f"{len(header)} tensors, none of which fits",
            hint="A diffusers component is loaded by its model's folder; kinoform inspect FILE says what this is",
        )
    if family not in SUPPORTED:
        raise ModelError(
            f"model {file}",
            expected=" or ".join(SUPPORTED),
            got=family,
            hint=PART if family in TRANSFORMERS else MOVE if family == MOTION else CONVERT,
        )
    texts = TEXTS.get(family, (("text encoder", "cond_stage_model."),))
    for what, prefix in (("UNet", UNET), ("autoencoder", "first_stage_model."), *texts):
        if not any(name.startswith(prefix) for name in header):
            raise ModelError(f"model {file}", expected=f"the {what}, tensors {prefix}*", got=f"{family} without it")
    return family


def _context_width(header: Header) -> int | None:
    """The width of the text that a UNet of Stable Diffusion attends to; None where there is no such UNet."""
    name = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    shape = header.get(name) or header.get(name.replace("blocks.1.", "blocks.2.", 1))
    return shape[-1] if shape else None

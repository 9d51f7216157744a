"""Which architecture a header is of, held against what diffusers takes it for."""

from types import SimpleNamespace

import pytest
from diffusers.loaders.single_file_utils import CHECKPOINT_KEY_NAMES, infer_diffusers_model_type

from shared.errors import ModelError
from shared.models.layouts.family import MOTION, SD1, SD2, SUPPORTED, TRANSFORMERS, check_single_file, family_of

UNET = "model.diffusion_model."
SD = {f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768)}
SD |= {f"{UNET}input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": (320, 768)}
SD |= {f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3), f"{UNET}input_blocks.1.1.proj_in.weight": (320, 320, 1, 1)}
SD_2 = {name: (320, 1024) if "to_k" in name else shape for name, shape in SD.items()}
SD_2[f"{UNET}input_blocks.1.1.proj_in.weight"] = (320, 320)
XL = {"conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": (1280,)}
JOINT = f"{UNET}joint_blocks.0.context_block.adaLN_modulation.1.bias"
MODULE = "down_blocks.0.motion_modules.0.temporal_transformer"
POSITIONS = f"{MODULE}.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
SAMPLES = {  # what diffusers calls it: our name, and a header
    "v1": (SD1, SD),
    "v2": (SD2, SD_2),
    "inpainting": ("Stable Diffusion 1 for inpainting", {**SD, f"{UNET}input_blocks.0.0.weight": (320, 9, 3, 3)}),
    "inpainting_v2": ("Stable Diffusion 2 for inpainting", {**SD_2, f"{UNET}input_blocks.0.0.weight": (320, 9, 3, 3)}),
    "instruct-pix2pix": ("InstructPix2Pix", {**SD, f"{UNET}input_blocks.0.0.weight": (320, 8, 3, 3)}),
    "xl_base": ("Stable Diffusion XL", XL),
    "xl_refiner": (
        "the refiner of Stable Diffusion XL",
        {"conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias": (1280,)},
    ),
    "playground-v2-5": ("Playground 2.5", {**XL, "edm_mean": (4,)}),
    "sd3": ("Stable Diffusion 3", {JOINT: (9216,), f"{UNET}pos_embed": (1, 36864, 1536)}),
    "flux-schnell": ("Flux", {"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}),
    "flux-dev": (
        "Flux",
        {
            f"{UNET}double_blocks.0.img_attn.norm.key_norm.scale": (128,),
            f"{UNET}guidance_in.in_layer.bias": (3072,),
            f"{UNET}img_in.weight": (3072, 64),
        },
    ),
    "animatediff_v2": (
        MOTION,
        {POSITIONS: (1, 32, 320), "mid_block.motion_modules.0.temporal_transformer.norm.bias": (1280,)},
    ),
    "flux-2-dev": ("Flux 2", {"single_stream_modulation.lin.weight": (1, 1)}),
    "wan-t2v-1.3B": ("Wan", {"head.modulation": (1, 2, 1536), "patch_embedding.weight": (1536, 16, 1, 2, 2)}),
    "ltx-video": ("LTX-Video", {"patchify_proj.weight": (2048, 128)}),
    "hunyuan-video": (
        "HunyuanVideo",
        {"txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias": (6144,)},
    ),
    "mochi-1-preview": ("Mochi 1", {"blocks.0.attn.qkv_x.weight": (1, 1)}),
    "chroma": ("Chroma", {"distilled_guidance_layer.in_proj.bias": (5120,)}),
    "sana": ("Sana", {"blocks.0.cross_attn.q_linear.weight": (1, 1)}),
    "lumina2": ("Lumina 2", {"cap_embedder.0.weight": (1,)}),
    "hidream": ("HiDream", {"double_stream_blocks.0.block.adaLN_modulation.1.bias": (1,)}),
    "controlnet": ("a ControlNet", {"control_model.time_embed.0.weight": (1280, 320)}),
    "z-image-turbo": ("Z-Image", {f"{UNET}layers.0.adaLN_modulation.0.weight": (1, 1)}),
}


@pytest.mark.parametrize("theirs", SAMPLES)
def test_families(theirs, tmp_path):
    ours, header = SAMPLES[theirs]
    checkpoint = {name: SimpleNamespace(shape=shape) for name, shape in header.items()}
    assert infer_diffusers_model_type(checkpoint) == theirs
    assert family_of(header) == ours
    with pytest.raises(ModelError) as caught:
        check_single_file(tmp_path / "a.safetensors", header)
    line = str(caught.value)
    assert ours in line
    assert ("save_pretrained(FOLDER)" in line) == (ours not in {*SUPPORTED, *TRANSFORMERS, MOTION})
    assert ("--motion-adapter FILE" in line) == (ours == MOTION)
    assert ("--transformer FILE" in line) == (ours in TRANSFORMERS)


def test_the_telling_tensors_are_diffusers_own():
    known = {key for keys in CHECKPOINT_KEY_NAMES.values() for key in ([keys] if isinstance(keys, str) else keys)}
    for ours, header in SAMPLES.values():
        if ours not in SUPPORTED:
            assert known & header.keys(), ours

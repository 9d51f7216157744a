"""Stable Diffusion 1 and 2 with few channels and random weights: as a diffusers folder, and in the original layout.

The way from diffusers' names to the original ones is written here once more, from the other side than the project's.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from shared.models.save import save_image_model
from tests.tiny import tiny_text

WIDTHS = {1: (32, 64, 64, 64), 2: (64, 128, 128, 128)}


def small_vae(**more):
    return AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
        **more,
    )


def assert_same_weights(wanted, got):
    """Of two networks: the same names, the same tensors."""
    wanted, got = wanted.state_dict(), got.state_dict()
    assert wanted.keys() == got.keys()
    assert all(torch.equal(wanted[key], got[key]) for key in wanted)


def networks(version: int, seed: int = 0):
    """UNet, autoencoder, text encoder and tokenizer in the shape of Stable Diffusion `version`."""
    torch.manual_seed(seed)
    widths = WIDTHS[version]
    heads = 8 if version == 1 else [width // 64 for width in widths]
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=widths,
        cross_attention_dim=64,
        attention_head_dim=heads,
        use_linear_projection=version == 2,
    )
    vae = small_vae(sample_size=512)
    tokenizer, _ = tiny_text()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        projection_dim=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act="quick_gelu" if version == 1 else "gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return unet.eval(), vae.eval(), CLIPTextModel(config).eval(), tokenizer


def scheduler(version: int):
    """As the folders of Stable Diffusion 1.5 and 2.1 have it."""
    shared = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
    if version == 1:
        return PNDMScheduler(**shared, skip_prk_steps=True, set_alpha_to_one=False)
    return DDIMScheduler(**shared, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction")


def build_folder(path: Path, version: int) -> Path:
    unet, vae, text, tokenizer = networks(version)
    parts = {"unet": unet, "vae": vae, "text_encoder": text, "tokenizer": tokenizer, "scheduler": scheduler(version)}
    return save_image_model(path, **parts)


def build_single_file(path: Path, version: int, *, metadata=None, edit=lambda tensors: None) -> Path:
    """The same weights, in half precision too, in one file; its tokenizer in the folder beside it."""
    unet, vae, text, tokenizer = networks(version)
    tensors = original(unet, vae, text, version)
    tensors = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
    edit(tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata)
    tokenizer.save_pretrained(path.parent / "tokenizer")
    return path


def original(unet, vae, text, version: int):
    """All tensors by their original names."""
    found = {f"model.diffusion_model.{unet_name(name)}": tensor for name, tensor in unet.state_dict().items()}
    for name, tensor in vae.state_dict().items():
        place = vae_name(name)
        convolution = ".attn_1." in place and place.endswith("weight") and ".norm." not in place
        found[f"first_stage_model.{place}"] = tensor[:, :, None, None] if convolution else tensor
    states = {name.removeprefix("text_model."): tensor for name, tensor in text.state_dict().items()}
    if version == 1:
        found |= {f"cond_stage_model.transformer.text_model.{name}": tensor for name, tensor in states.items()}
        found["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(16)[None]
    else:
        found |= open_clip(states)
    found["alphas_cumprod"] = torch.linspace(1, 0, 1000)
    return found


def unet_name(name: str, *, xl: bool = False) -> str:
    for new, old in (
        ("add_embedding.linear_1", "label_emb.0.0"),
        ("add_embedding.linear_2", "label_emb.0.2"),
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("conv_in", "input_blocks.0.0"),
        ("conv_norm_out", "out.0"),
        ("conv_out", "out.2"),
    ):
        if name.startswith(f"{new}."):
            return name.replace(new, old)
    places = {"mid_block.attentions.0.": "middle_block.1."}
    places |= {f"mid_block.resnets.{n}.": f"middle_block.{2 * n}." for n in range(2)}
    for level in range(4):
        for layer in range(2):
            places[f"down_blocks.{level}.resnets.{layer}."] = f"input_blocks.{3 * level + layer + 1}.0."
            places[f"down_blocks.{level}.attentions.{layer}."] = f"input_blocks.{3 * level + layer + 1}.1."
        for layer in range(3):
            places[f"up_blocks.{level}.resnets.{layer}."] = f"output_blocks.{3 * level + layer}.0."
            places[f"up_blocks.{level}.attentions.{layer}."] = f"output_blocks.{3 * level + layer}.1."
        places[f"down_blocks.{level}.downsamplers.0.conv."] = f"input_blocks.{3 * (level + 1)}.0.op."
        places[f"up_blocks.{level}.upsamplers.0."] = (
            f"output_blocks.{3 * level + 2}.{1 if level == 0 and not xl else 2}."
        )
    new, old = next((new, old) for new, old in places.items() if name.startswith(new))
    place = name.replace(new, old)
    if "resnets" in new:
        for new, old in (
            ("norm1", "in_layers.0"),
            ("conv1", "in_layers.2"),
            ("norm2", "out_layers.0"),
            ("conv2", "out_layers.3"),
            ("time_emb_proj", "emb_layers.1"),
            ("conv_shortcut", "skip_connection"),
        ):
            place = place.replace(new, old)
    return place


def vae_name(name: str) -> str:
    places = {"mid_block.attentions.0.": "mid.attn_1.", "conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out"}
    places |= {f"mid_block.resnets.{n}.": f"mid.block_{n + 1}." for n in range(2)}
    for level in range(4):
        places |= {f"down_blocks.{level}.resnets.{n}.": f"down.{level}.block.{n}." for n in range(2)}
        places |= {f"up_blocks.{level}.resnets.{n}.": f"up.{3 - level}.block.{n}." for n in range(3)}
        places[f"down_blocks.{level}.downsamplers.0."] = f"down.{level}.downsample."
        places[f"up_blocks.{level}.upsamplers.0."] = f"up.{3 - level}.upsample."
    if "attentions" in name:
        places |= {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."}
    for new, old in places.items():
        name = name.replace(new, old)
    return name


def open_clip(states):
    """A CLIP of transformers as OpenCLIP keeps it, with the last layer and the projection that nobody uses."""
    found = open_clip_names(states, 2)
    first = "transformer.resblocks.0."
    found |= {name.replace(".0.", ".2.", 1): 0 * tensor for name, tensor in found.items() if name.startswith(first)}
    found["text_projection"], found["logit_scale"] = torch.eye(64), torch.tensor(4.6)
    return {f"cond_stage_model.model.{name}": tensor for name, tensor in found.items()}


def open_clip_names(states, layers):
    """The tensors of a CLIP of transformers by OpenCLIP's names."""
    found = {}
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    names |= {"self_attn.out_proj": "attn.out_proj", "encoder.layers": "transformer.resblocks"}
    names |= {"embeddings.token_embedding": "token_embedding", "final_layer_norm": "ln_final"}
    names |= {"embeddings.position_embedding.weight": "positional_embedding"}
    for name, tensor in states.items():
        if "_proj." in name and "out_proj" not in name:
            continue
        for new, old in names.items():
            name = name.replace(new, old)
        found[name] = tensor
    for layer in range(layers):
        for ending in ("weight", "bias"):
            parts = [states[f"encoder.layers.{layer}.self_attn.{q}_proj.{ending}"] for q in "qkv"]
            found[f"transformer.resblocks.{layer}.attn.in_proj_{ending}"] = torch.cat(parts)
    return found

"""Stable Diffusion XL with few channels and random weights: as a diffusers folder, and in the original layout."""

from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.shared.models.layouts.narrow import open_clip_names, small_vae, unet_name, vae_name
from tests.tiny import tiny_text

LAYERS = 10  # of the second text encoder: by its tenth the family is known
PROJECTED = 32


def build_pipeline(seed: int = 0) -> StableDiffusionXLPipeline:
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(64, 128, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        attention_head_dim=(1, 2, 2),
        cross_attention_dim=128,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + PROJECTED,
    )
    vae = small_vae(sample_size=1024, scaling_factor=0.13025)
    tokenizer, other = tiny_text()[0], tiny_text()[0]
    other.pad_token = "!"  # as XL's second one has it
    shared = {"vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 1,
              "max_position_embeddings": tokenizer.model_max_length, "bos_token_id": tokenizer.bos_token_id,
              "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    first = CLIPTextConfig(**shared, num_hidden_layers=2, projection_dim=64, hidden_act="quick_gelu")
    second = CLIPTextConfig(**shared, num_hidden_layers=LAYERS, projection_dim=PROJECTED, hidden_act="gelu")
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, timestep_spacing="leading"
    )
    pipeline = StableDiffusionXLPipeline(
        unet=unet, vae=vae, text_encoder=CLIPTextModel(first), text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=tokenizer, tokenizer_2=other, scheduler=scheduler, add_watermarker=False,
    )  # fmt: skip
    for network in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        network.eval().half()
    return pipeline


def build_xl_file(path: Path, pipeline: StableDiffusionXLPipeline, metadata=None) -> Path:
    """The same weights in one file; its tokenizer in the folder beside it."""
    states = pipeline.unet.state_dict().items()
    tensors = {f"model.diffusion_model.{unet_name(name, xl=True)}": tensor for name, tensor in states}
    for name, tensor in pipeline.vae.state_dict().items():
        place = vae_name(name)
        convolution = ".attn_1." in place and place.endswith("weight") and ".norm." not in place
        tensors[f"first_stage_model.{place}"] = tensor[:, :, None, None] if convolution else tensor
    for name, tensor in pipeline.text_encoder.state_dict().items():
        tensors[f"conditioner.embedders.0.transformer.text_model.{name.removeprefix('text_model.')}"] = tensor
    states = {name.removeprefix("text_model."): tensor for name, tensor in pipeline.text_encoder_2.state_dict().items()}
    projection = states.pop("text_projection.weight").T
    second = {**open_clip_names(states, LAYERS), "text_projection": projection, "logit_scale": torch.tensor(4.6)}
    tensors |= {f"conditioner.embedders.1.model.{name}": tensor for name, tensor in second.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    pipeline.tokenizer.save_pretrained(path.parent / "tokenizer")
    return path

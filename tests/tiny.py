"""Tiny model folders with random weights, built from stock classes: real files for tests, in a tenth of a second."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    AutoencoderTiny,
    DDIMScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from shared.models.prompts.vocabulary import learn_tokenizer
from shared.models.save import save_image_model

COLOURS = ["red", "green", "blue", "yellow", "white"]
OBJECTS = ["cube", "sphere", "ball", "cone", "chair", "car", "duck"]
MOTIONS = ["moving", "left", "right", "up", "down", "bouncing", "spinning", "orbiting", "camera"]
WORDS = ["a", *COLOURS, *OBJECTS, "on", "top", "of", "next", "to", *MOTIONS, "front", "side", "back", "view", ","]
MAX_LENGTH = 16


def tiny_unet(seed: int = 0, **changes) -> UNet2DConditionModel:
    """A two-level UNet over 16x16x4 latents; attention at both levels, 0.4 million weights."""
    torch.manual_seed(seed)
    config = {
        "sample_size": 16,
        "block_out_channels": (32, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**config, **changes}).eval()


def tiny_vae(seed: int = 0) -> AutoencoderTiny:
    """Four pixels a latent along each side, four latent channels."""
    torch.manual_seed(seed)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        scaling_factor=0.7,
    ).eval()
    with torch.no_grad():  # from a random network: pictures of mid-grey with visible contrast instead of black ones
        last = vae.decoder.layers[-1]
        last.weight.mul_(4)
        last.bias.fill_(0.5)
    return vae


def tiny_temporal_vae(seed: int = 0) -> AutoencoderKLTemporalDecoder:
    """An autoencoder whose decoder looks across frames as much as at them; its group norms want 32 channels."""
    torch.manual_seed(seed)
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        layers_per_block=1,
        scaling_factor=0.3,
    )
    return vae.eval()


def tiny_text(seed: int = 0):
    """A tokenizer of whole words and a text encoder of one layer."""
    torch.manual_seed(seed)
    tokenizer = learn_tokenizer([" ".join(WORDS)], max_length=MAX_LENGTH)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        projection_dim=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer, CLIPTextModel(config).eval()


def tiny_scheduler() -> DDIMScheduler:
    """The scheduler of the embedded model."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,  # without effect on "trailing"; the stock pipeline warns about 0
    )


def build_image_folder(path: str | Path, seed: int = 0) -> Path:
    """A stock Stable Diffusion folder in half precision, as the embedded model is."""
    tokenizer, text_encoder = tiny_text(seed)
    return save_image_model(
        path,
        unet=tiny_unet(seed),
        vae=tiny_vae(seed),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=tiny_scheduler(),
    )


def build_xl_folder(path: str | Path, seed: int = 0) -> Path:
    """A stock Stable Diffusion XL folder: two text encoders, of which the second has a projection."""
    tokenizer, first = tiny_text(seed)
    torch.manual_seed(seed + 1)
    second = CLIPTextModelWithProjection(CLIPTextConfig.from_dict({**first.config.to_dict(), "num_hidden_layers": 2}))
    unet = tiny_unet(
        seed,
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )
    StableDiffusionXLPipeline(
        vae=tiny_vae(seed), text_encoder=first, text_encoder_2=second.eval(), tokenizer=tokenizer,
        tokenizer_2=tokenizer, unet=unet, scheduler=tiny_scheduler(), add_watermarker=False,
    ).save_pretrained(path)  # fmt: skip
    return Path(path)

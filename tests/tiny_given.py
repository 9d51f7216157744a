"""Tiny folders of models whose UNet sees a picture beside its latents: a depth map, or a picture of low resolution."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionDepth2ImgPipeline, StableDiffusionUpscalePipeline
from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessorPil

from tests.tiny import tiny_scheduler, tiny_text, tiny_unet, tiny_vae

MOST_NOISE = 350


def tiny_depth_estimator(seed: int = 0) -> tuple[DPTForDepthEstimation, DPTImageProcessorPil]:
    """A hybrid, as that of Stable Diffusion 2 is: convolutions, then transformer layers; it looks at 64x64 pixels."""
    torch.manual_seed(seed)
    backbone = {
        "layer_type": "bottleneck",
        "global_padding": "same",
        "embedding_dynamic_padding": True,
        "embedding_size": 8,
        "depths": [1, 1, 1],
        "hidden_sizes": [16, 16, 16],
        "num_groups": 2,
        "out_features": ["stage1", "stage2", "stage3"],
    }
    config = DPTConfig(
        image_size=64,
        patch_size=16,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=32,
        backbone_out_indices=(0, 1, 2, 3),
        is_hybrid=True,
        backbone_config=backbone,
        backbone_featmap_shape=[1, 16, 4, 4],
        neck_hidden_sizes=[16, 16, 16, 16],
        fusion_hidden_size=16,
    )
    return DPTForDepthEstimation(config).eval(), DPTImageProcessorPil(size={"height": 64, "width": 64})


def depth_pipeline(seed: int = 0) -> StableDiffusionDepth2ImgPipeline:
    """Stable Diffusion with depth: 16x16 latents of 4 pixels a side."""
    tokenizer, text_encoder = tiny_text(seed)
    estimator, processor = tiny_depth_estimator(seed)
    return StableDiffusionDepth2ImgPipeline(
        vae=tiny_vae(seed), text_encoder=text_encoder, tokenizer=tokenizer, unet=tiny_unet(seed, in_channels=5),
        scheduler=tiny_scheduler(), depth_estimator=estimator, feature_extractor=processor,
    )  # fmt: skip


def upscaler_pipeline(seed: int = 0) -> StableDiffusionUpscalePipeline:
    """Stable Diffusion's upscaler: latents as large as the picture, of which each becomes 4x4 pixels; one level of its
    UNet has cross attention alone."""
    tokenizer, text_encoder = tiny_text(seed)
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8), norm_num_groups=4, scaling_factor=0.08333,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    ).eval()  # fmt: skip
    unet = tiny_unet(seed, in_channels=7, num_class_embeds=1000, only_cross_attention=(True, False))
    return StableDiffusionUpscalePipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=tiny_scheduler(),
        low_res_scheduler=DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.0001, beta_end=0.02),
        max_noise_level=MOST_NOISE,
    )  # fmt: skip


def build_depth_folder(path: str | Path, seed: int = 0) -> Path:
    depth_pipeline(seed).save_pretrained(path)
    return Path(path)


def build_upscaler_folder(path: str | Path, seed: int = 0) -> Path:
    upscaler_pipeline(seed).save_pretrained(path)
    return Path(path)

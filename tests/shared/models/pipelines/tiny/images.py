"""Tiny pipelines that make pictures, one function a class."""

from __future__ import annotations

from diffusers import (
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from tests.shared.models.pipelines.tiny.parts import WIDTH, clip_text, kl, projected_text, second, seeded, t5_text

SHIFTED = {"shift_factor": 0.06, "scaling_factor": 1.5, "use_quant_conv": False, "use_post_quant_conv": False}


def unet(**changes):
    """A UNet of two levels over 16x16 latents."""
    config = {
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return seeded(UNet2DConditionModel, **{**config, **changes})


def stable_diffusion_xl():
    return StableDiffusionXLPipeline(
        unet=unet(
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
            cross_attention_dim=2 * WIDTH,
            transformer_layers_per_block=(1, 2),
        ),
        vae=kl(),
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading"),
        **clip_text(),
        **second(projected_text()),
        add_watermarker=False,
    )


def stable_diffusion_3():
    return StableDiffusion3Pipeline(
        transformer=seeded(
            SD3Transformer2DModel, sample_size=16, patch_size=2, in_channels=4, num_layers=1, attention_head_dim=8,
            num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=2 * WIDTH,
            pooled_projection_dim=2 * WIDTH, out_channels=4,
        ),
        vae=kl(**SHIFTED),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        **projected_text(),
        **second(projected_text()),
        **second(t5_text(2 * WIDTH), 3),
    )  # fmt: skip

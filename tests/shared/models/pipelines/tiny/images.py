"""Tiny pipelines that make pictures, one function a class."""

from __future__ import annotations

from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PNDMScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from tests.shared.models.pipelines.tiny.parts import (
    WIDTH,
    clip_text,
    gemma_text,
    kl,
    projected_text,
    qwen_text,
    second,
    seeded,
    t5_text,
    umt5_text,
)

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


def stable_diffusion_of(scheduler, **config):
    return StableDiffusionPipeline(
        unet=unet(**config),
        vae=kl(),
        scheduler=scheduler,
        **clip_text(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion():
    return stable_diffusion_of(PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True))


def stable_diffusion_2():
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction", clip_sample=False)
    return stable_diffusion_of(scheduler, use_linear_projection=True)


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


def flux():
    return FluxPipeline(
        transformer=seeded(
            FluxTransformer2DModel, patch_size=1, in_channels=16, num_layers=1, num_single_layers=1,
            attention_head_dim=16, num_attention_heads=2, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH,
            axes_dims_rope=[4, 4, 8], guidance_embeds=True,
        ),
        vae=kl(**SHIFTED),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        **clip_text(),
        **second(t5_text()),
    )  # fmt: skip


def chroma():
    return ChromaPipeline(
        transformer=seeded(
            ChromaTransformer2DModel, patch_size=1, in_channels=16, num_layers=1, num_single_layers=1,
            attention_head_dim=16, num_attention_heads=2, joint_attention_dim=WIDTH, axes_dims_rope=[4, 4, 8],
            approximator_hidden_dim=32, approximator_layers=1, approximator_num_channels=16,
        ),
        vae=kl(**SHIFTED),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        **t5_text(),
    )  # fmt: skip


def pixart(pipeline):
    """Of 32x32 latents: the class has a table of sizes for that."""
    transformer = seeded(
        PixArtTransformer2DModel, sample_size=32, num_layers=1, patch_size=2, attention_head_dim=8,
        num_attention_heads=3, caption_channels=WIDTH, in_channels=4, cross_attention_dim=24, out_channels=8,
        norm_type="ada_norm_single", use_additional_conditions=False,
    )  # fmt: skip
    return pipeline(transformer=transformer, vae=kl(4), scheduler=DDIMScheduler(), **t5_text())


def pixart_alpha():
    return pixart(PixArtAlphaPipeline)


def pixart_sigma():
    return pixart(PixArtSigmaPipeline)


def sana():
    """Of 16x16 latents of 32 pixels each: the class has a table of sizes for that."""
    levels = 6
    return SanaPipeline(
        transformer=seeded(
            SanaTransformer2DModel, patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2,
            attention_head_dim=4, num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8,
            caption_channels=WIDTH, sample_size=16,
        ),
        vae=seeded(
            AutoencoderDC, latent_channels=4, attention_head_dim=2,
            encoder_block_types=("ResBlock",) * levels, decoder_block_types=("ResBlock",) * levels,
            encoder_block_out_channels=(4,) * levels, decoder_block_out_channels=(4,) * levels,
            encoder_qkv_multiscales=((),) * levels, decoder_qkv_multiscales=((),) * levels,
            encoder_layers_per_block=(1,) * levels, decoder_layers_per_block=(1,) * levels,
            downsample_block_type="conv", upsample_block_type="interpolate",
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        **gemma_text(),
    )  # fmt: skip


def lumina_2():
    return Lumina2Pipeline(
        transformer=seeded(
            Lumina2Transformer2DModel, sample_size=16, patch_size=2, in_channels=4, hidden_size=8, num_layers=1,
            num_attention_heads=1, num_kv_heads=1, multiple_of=16, axes_dim_rope=[4, 2, 2], cap_feat_dim=WIDTH,
        ),
        vae=kl(4, **SHIFTED),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        **gemma_text(),
    )  # fmt: skip


def aura_flow():
    return AuraFlowPipeline(
        transformer=seeded(
            AuraFlowTransformer2DModel, sample_size=16, patch_size=2, in_channels=4, num_mmdit_layers=1,
            num_single_dit_layers=1, attention_head_dim=8, num_attention_heads=4, caption_projection_dim=32,
            joint_attention_dim=WIDTH, out_channels=4, pos_embed_max_size=256,
        ),
        vae=kl(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        **umt5_text(),
    )  # fmt: skip


def qwen_image():
    return QwenImagePipeline(
        transformer=seeded(
            QwenImageTransformer2DModel, patch_size=2, in_channels=64, out_channels=16, num_layers=1,
            attention_head_dim=16, num_attention_heads=2, joint_attention_dim=WIDTH, axes_dims_rope=(8, 4, 4),
        ),
        vae=seeded(
            AutoencoderKLQwenImage, base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        **qwen_text(),
    )  # fmt: skip


def latent_consistency():
    return LatentConsistencyModelPipeline(
        unet=unet(time_cond_proj_dim=32),
        vae=kl(),
        scheduler=LCMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False),
        **clip_text(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )

"""Tiny pipelines that make clips, one function a class."""

from __future__ import annotations

import torch
from diffusers import (
    AllegroPipeline,
    AllegroTransformer3DModel,
    AnimateDiffPipeline,
    AnimateDiffSDXLPipeline,
    AutoencoderKLAllegro,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LattePipeline,
    LatteTransformer3DModel,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    MotionAdapter,
    StableVideoDiffusionPipeline,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
    UNetSpatioTemporalConditionModel,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)

from tests.shared.models.pipelines.tiny.images import unet
from tests.shared.models.pipelines.tiny.parts import (
    WIDTH,
    clip_text,
    image_encoder,
    image_processor,
    kl,
    llama_text,
    projected_text,
    second,
    seeded,
    t5_text,
    umt5_text,
)

FOUR = 4  # levels of an autoencoder of 8 pixels a latent


def animate_diff():
    torch.manual_seed(0)  # the class takes a UNet of pictures and an adapter, and makes one network of them
    return AnimateDiffPipeline(
        unet=unet(),
        motion_adapter=seeded(
            MotionAdapter, block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=4,
            motion_num_attention_heads=2,
        ),
        vae=kl(),
        scheduler=DDIMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False),
        **clip_text(),
    )  # fmt: skip


def animate_diff_xl():
    torch.manual_seed(0)
    return AnimateDiffSDXLPipeline(
        unet=unet(
            addition_embed_type="text_time", addition_time_embed_dim=8, cross_attention_dim=2 * WIDTH,
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        ),
        motion_adapter=seeded(
            MotionAdapter, block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=4,
            motion_num_attention_heads=2, use_motion_mid_block=False,
        ),
        vae=kl(),
        scheduler=DDIMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False),
        **clip_text(),
        **second(projected_text()),
    )  # fmt: skip


def stable_video_diffusion():
    return StableVideoDiffusionPipeline(
        unet=seeded(
            UNetSpatioTemporalConditionModel, block_out_channels=(32, 64), layers_per_block=1, sample_size=16,
            in_channels=8, out_channels=4,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            cross_attention_dim=WIDTH, num_attention_heads=4, projection_class_embeddings_input_dim=96,
            addition_time_embed_dim=32, num_frames=4,
        ),
        vae=seeded(
            AutoencoderKLTemporalDecoder, block_out_channels=(32, 32), latent_channels=4, layers_per_block=1,
            down_block_types=("DownEncoderBlock2D",) * 2,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_schedule="scaled_linear", prediction_type="v_prediction", sigma_max=700.0, sigma_min=0.002,
            timestep_spacing="leading", timestep_type="continuous", use_karras_sigmas=True,
        ),
        **image_encoder(),
        feature_extractor=image_processor(),
    )  # fmt: skip


def wan_parts(**transformer):
    return {
        "transformer": seeded(
            WanTransformer3DModel, patch_size=(1, 2, 2), num_attention_heads=2, out_channels=16, text_dim=WIDTH,
            **{"in_channels": 16, "attention_head_dim": 12, **transformer}, freq_dim=32, ffn_dim=32, num_layers=1,
            rope_max_seq_len=32,
        ),
        "vae": seeded(AutoencoderKLWan, base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
        **umt5_text(),
    }  # fmt: skip


def wan():
    return WanPipeline(**wan_parts())


def wan_2_2():
    """Two transformers: the first as long as there is nine tenths of the noise, then the second."""
    return WanPipeline(**wan_parts(), transformer_2=wan_parts()["transformer"], boundary_ratio=0.9)


def wan_image():
    return WanImageToVideoPipeline(
        **wan_parts(in_channels=36, image_dim=WIDTH), **image_encoder(), image_processor=image_processor()
    )


def ltx_parts():
    scaling = (True, True, True, False)
    return {
        "transformer": seeded(
            LTXVideoTransformer3DModel, in_channels=8, out_channels=8, patch_size=1, patch_size_t=1,
            num_attention_heads=4, attention_head_dim=8, cross_attention_dim=32, num_layers=1, caption_channels=WIDTH,
        ),
        "vae": seeded(
            AutoencoderKLLTXVideo, latent_channels=8, block_out_channels=(8,) * 4,
            decoder_block_out_channels=(8,) * 4, layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5,
            spatio_temporal_scaling=scaling, decoder_spatio_temporal_scaling=scaling,
            decoder_inject_noise=(False,) * 5, upsample_residual=(False,) * 4, upsample_factor=(1,) * 4,
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        **t5_text(),
    }  # fmt: skip


def ltx():
    return LTXPipeline(**ltx_parts())


def ltx_image():
    return LTXImageToVideoPipeline(**ltx_parts())


def cogvideox_parts(**transformer):
    return {
        "transformer": seeded(
            CogVideoXTransformer3DModel, num_attention_heads=2, attention_head_dim=16, out_channels=4,
            **{"in_channels": 4, **transformer},
            time_embed_dim=2, text_embed_dim=WIDTH, num_layers=1, sample_width=2, sample_height=2, sample_frames=9,
            patch_size=2, temporal_compression_ratio=4, max_text_seq_length=226,
        ),
        "vae": seeded(
            AutoencoderKLCogVideoX, down_block_types=("CogVideoXDownBlock3D",) * FOUR,
            up_block_types=("CogVideoXUpBlock3D",) * FOUR, block_out_channels=(8,) * FOUR, latent_channels=4,
            layers_per_block=1, norm_num_groups=2, temporal_compression_ratio=4,
        ),
        "scheduler": DDIMScheduler(),
        **t5_text(),
    }  # fmt: skip


def cogvideox():
    return CogVideoXPipeline(**cogvideox_parts())


def cogvideox_image():
    return CogVideoXImageToVideoPipeline(**cogvideox_parts(in_channels=8))


def hunyuan_video():
    return HunyuanVideoPipeline(
        transformer=seeded(
            HunyuanVideoTransformer3DModel, in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10,
            num_layers=1, num_single_layers=1, num_refiner_layers=1, patch_size=1, patch_size_t=1, guidance_embeds=True,
            text_embed_dim=WIDTH, pooled_projection_dim=WIDTH, rope_axes_dim=(2, 4, 4),
        ),
        vae=seeded(
            AutoencoderKLHunyuanVideo, latent_channels=4, down_block_types=("HunyuanVideoDownBlock3D",) * FOUR,
            up_block_types=("HunyuanVideoUpBlock3D",) * FOUR, block_out_channels=(8,) * FOUR, layers_per_block=1,
            norm_num_groups=4,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        **llama_text(),
        **second(clip_text(tokens=77)),
    )  # fmt: skip


def mochi():
    return MochiPipeline(
        transformer=seeded(
            MochiTransformer3DModel, patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=2,
            pooled_projection_dim=16, in_channels=12, text_embed_dim=WIDTH, time_embed_dim=4, max_sequence_length=16,
        ),
        vae=seeded(
            AutoencoderKLMochi, latent_channels=12, encoder_block_out_channels=(32,) * 4,
            decoder_block_out_channels=(32,) * 4, layers_per_block=(1,) * 5,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        **t5_text(),
    )  # fmt: skip


def latte():
    return LattePipeline(
        transformer=seeded(
            LatteTransformer3DModel, sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8,
            num_attention_heads=3, caption_channels=WIDTH, in_channels=4, cross_attention_dim=24, out_channels=8,
            norm_type="ada_norm_single", norm_elementwise_affine=False, num_embeds_ada_norm=1000, video_length=4,
        ),
        vae=kl(FOUR),
        scheduler=DDIMScheduler(),
        **t5_text(),
    )  # fmt: skip


def allegro():
    return AllegroPipeline(
        transformer=seeded(
            AllegroTransformer3DModel, num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
            num_layers=1, cross_attention_dim=24, sample_width=16, sample_height=16, sample_frames=6,
            caption_channels=WIDTH,
        ),
        vae=seeded(
            AutoencoderKLAllegro, down_block_types=("AllegroDownBlock3D",) * FOUR,
            up_block_types=("AllegroUpBlock3D",) * FOUR, block_out_channels=(8,) * FOUR, latent_channels=4,
            layers_per_block=1, norm_num_groups=2, temporal_compression_ratio=4, sample_size=128,
        ),  # the class decodes by tiles of these alone
        scheduler=DDIMScheduler(),
        **t5_text(),
    )  # fmt: skip


def text_to_video():
    return TextToVideoSDPipeline(
        unet=seeded(
            UNet3DConditionModel, sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"), cross_attention_dim=WIDTH, attention_head_dim=4,
        ),
        vae=kl(),
        scheduler=DDIMScheduler(),
        **clip_text(),
    )  # fmt: skip

"""Tiny pipelines that make pictures from pixels, or from a prior's picture of the text."""

from __future__ import annotations

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    IFPipeline,
    Kandinsky3Pipeline,
    Kandinsky3UNet,
    KandinskyV22CombinedPipeline,
    PriorTransformer,
    UnCLIPPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

from tests.shared.models.pipelines.tiny.parts import (
    TOKENS,
    WIDTH,
    image_encoder,
    image_processor,
    projected_text,
    seeded,
    t5_text,
)

CROSSED = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 8,
    "resnet_time_scale_shift": "scale_shift",
}


def deep_floyd():
    return IFPipeline(
        unet=seeded(
            UNet2DConditionModel, **CROSSED, sample_size=32, in_channels=3, out_channels=6, encoder_hid_dim=WIDTH,
            addition_embed_type="text", addition_embed_type_num_heads=2, cross_attention_norm="group_norm",
            act_fn="gelu",
        ),
        scheduler=DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=1.0,
            variance_type="learned_range",
        ),
        **t5_text(),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )  # fmt: skip


def prior():
    made = seeded(
        PriorTransformer, num_attention_heads=2, attention_head_dim=12, embedding_dim=WIDTH, num_layers=1,
        num_embeddings=TOKENS,
    )  # fmt: skip
    with torch.no_grad():  # zeros, which make every picture of a text the same
        made.clip_std.fill_(1.0)
    return made


def unclip():
    def super_resolution():
        return seeded(
            UNet2DModel, sample_size=32, layers_per_block=1, in_channels=6, out_channels=3, block_out_channels=(32, 64),
            down_block_types=("ResnetDownsampleBlock2D",) * 2, up_block_types=("ResnetUpsampleBlock2D",) * 2,
        )  # fmt: skip

    return UnCLIPPipeline(
        prior=prior(),
        decoder=seeded(
            UNet2DConditionModel, **CROSSED, sample_size=16, in_channels=3, out_channels=6, class_embed_type="identity"
        ),
        text_proj=seeded(UnCLIPTextProjModel, clip_embeddings_dim=WIDTH, time_embed_dim=128, cross_attention_dim=WIDTH),
        super_res_first=super_resolution(),
        super_res_last=super_resolution(),
        prior_scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        decoder_scheduler=UnCLIPScheduler(variance_type="learned_range"),
        super_res_scheduler=UnCLIPScheduler(variance_type="fixed_small_log"),
        **projected_text(),
    )


def movq(levels=2):
    return seeded(
        VQModel, block_out_channels=(32,) * levels, latent_channels=4, layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        norm_type="spatial", num_vq_embeddings=12, vq_embed_dim=4,
    )  # fmt: skip


def kandinsky_2_2():
    prior_parts = {
        **projected_text(),
        **image_encoder(),
        "image_processor": image_processor(),
        "prior": prior(),
        "scheduler": UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=10.0
        ),
    }
    return KandinskyV22CombinedPipeline(
        unet=seeded(
            UNet2DConditionModel, **CROSSED, in_channels=4, out_channels=8, addition_embed_type="image",
            encoder_hid_dim=WIDTH, encoder_hid_dim_type="image_proj",
        ),
        movq=movq(),
        scheduler=DDIMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False),
        **{f"prior_{name}": part for name, part in prior_parts.items()},
    )  # fmt: skip


def kandinsky_3():
    return Kandinsky3Pipeline(
        unet=seeded(
            Kandinsky3UNet, in_channels=4, time_embedding_dim=4, groups=2, attention_head_dim=4, layers_per_block=3,
            block_out_channels=(32, 64), cross_attention_dim=4, encoder_hid_dim=WIDTH,
        ),
        movq=movq(4),
        scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=True),
        **t5_text(),
    )  # fmt: skip

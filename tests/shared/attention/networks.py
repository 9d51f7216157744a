"""One tiny random network of every kind that attends, and a forward of it: with a mask where it takes one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    CogVideoXTransformer3DModel,
    FluxTransformer2DModel,
    HunyuanVideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    SD3Transformer2DModel,
    UNetMotionModel,
    WanTransformer3DModel,
)
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Config,
    T5EncoderModel,
)

from tests.tiny import tiny_unet
from tests.tiny_given import tiny_depth_estimator

QUERIES_AND_KEYS = re.compile(r"(\.|_)(q|k|query|key)(_proj)?\.weight$")


class Kind(NamedTuple):
    """count: attention modules in it."""

    build: Callable[[], nn.Module]
    run: Callable[[nn.Module], Tensor]
    count: int


def made(kind: Kind) -> nn.Module:
    """The network in eval mode, its queries and keys large enough that scores differ."""
    torch.manual_seed(0)
    network = kind.build().eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if QUERIES_AND_KEYS.search(name):
                weight.mul_(5)
    return network


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


T = torch.tensor([3, 700])
TEXT, WIDE_TEXT = draw(2, 7, 16, seed=1), draw(2, 7, 32, seed=2)
POOLED = draw(2, 24, seed=3)
CLIP = draw(2, 4, 3, 8, 8, seed=4)
KEEP = torch.arange(7)[None] < torch.tensor([[7], [4]])
IDS = torch.tensor([[1, 5, 7, 3, 9, 4, 98], [1, 8, 2, 98, 99, 99, 99]])


def unet() -> nn.Module:
    """Attention at two levels, and the prompt pooled by attention, as in the embedded model."""
    return tiny_unet(addition_embed_type="text", addition_embed_type_num_heads=4)


def motion() -> nn.Module:
    return UNetMotionModel(
        sample_size=8,
        block_out_channels=(16,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlockMotion",),
        up_block_types=("CrossAttnUpBlockMotion",),
        cross_attention_dim=16,
        num_attention_heads=2,
        norm_num_groups=4,
        motion_num_attention_heads=2,
    )


def run_motion(network: nn.Module) -> Tensor:
    tokens = TEXT.repeat_interleave(3, dim=0)
    seen = torch.arange(64)[None] < torch.tensor([64, 40, 20, 64, 64, 8])[:, None]
    return network(CLIP, T, encoder_hidden_states=tokens, attention_mask=seen).sample


def wan(**changes: int) -> nn.Module:
    config = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 16,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 2,
        "cross_attn_norm": True,
        "rope_max_seq_len": 32,
    }
    return WanTransformer3DModel(**{**config, **changes})


def run_wan_of_images(network: nn.Module) -> Tensor:
    tokens, image = draw(2, 512, 16, seed=5), draw(2, 5, 16, seed=6)  # 512 is written into the processor
    return network(CLIP, T, tokens, encoder_hidden_states_image=image).sample


def ltx() -> nn.Module:
    return LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=16,
    )


def run_ltx(network: nn.Module) -> Tensor:
    size = {"num_frames": 2, "height": 4, "width": 4}
    return network(draw(2, 32, 8), TEXT, T, encoder_attention_mask=KEEP, **size).sample


def sd3() -> nn.Module:
    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=16,
        pooled_projection_dim=24,
        qk_norm="rms_norm",
        dual_attention_layers=(0,),
    )


def flux() -> nn.Module:
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=24,
        axes_dims_rope=[4, 4, 8],
    )


def run_flux(network: nn.Module) -> Tensor:
    places = {"img_ids": torch.zeros(16, 3), "txt_ids": torch.zeros(7, 3)}
    return network(draw(2, 16, 4), TEXT, POOLED, T / 1000, **places).sample


def cogvideox() -> nn.Module:
    return CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=16,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        max_text_seq_length=7,
    )


def hunyuan() -> nn.Module:
    return HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        pooled_projection_dim=24,
        rope_axes_dim=(2, 4, 4),
    )


def run_hunyuan(network: nn.Module) -> Tensor:
    return network(CLIP, T, TEXT, KEEP, POOLED, guidance=torch.tensor([6.0, 6.0])).sample


def autoencoder() -> nn.Module:
    return AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)


def wan_autoencoder() -> nn.Module:
    return AutoencoderKLWan(base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True])


def clip_text() -> nn.Module:
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    tokens = {"bos_token_id": 1, "eos_token_id": 98, "pad_token_id": 99}
    return CLIPTextModel(CLIPTextConfig(vocab_size=100, max_position_embeddings=7, **sizes, **tokens))


def clip_vision() -> nn.Module:
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    return CLIPVisionModel(CLIPVisionConfig(image_size=16, patch_size=4, **sizes))


def t5() -> nn.Module:
    return T5EncoderModel(T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4))


def masked(network: nn.Module) -> Tensor:
    return network(IDS, attention_mask=KEEP.long()).last_hidden_state


KINDS = {
    "unet": Kind(unet, lambda n: n(CLIP[:, :, 0], T, WIDE_TEXT, encoder_attention_mask=KEEP).sample, 15),
    "autoencoder": Kind(autoencoder, lambda n: n(draw(2, 3, 8, 12)).sample, 2),
    "motion": Kind(motion, run_motion, 16),
    "wan": Kind(wan, lambda n: n(CLIP, T, TEXT).sample, 4),
    "wan of images": Kind(lambda: wan(image_dim=16, added_kv_proj_dim=24), run_wan_of_images, 4),
    "ltx": Kind(ltx, run_ltx, 2),
    "sd3": Kind(sd3, lambda n: n(CLIP[:, :, 0], TEXT, POOLED, T).sample, 3),
    "flux": Kind(flux, run_flux, 2),
    "cogvideox": Kind(cogvideox, lambda n: n(CLIP.transpose(1, 2), TEXT, T).sample, 2),
    "hunyuan": Kind(hunyuan, run_hunyuan, 3),
    "wan autoencoder": Kind(wan_autoencoder, lambda n: n(draw(1, 3, 5, 16, 16)).sample, 2),
    "clip text": Kind(clip_text, lambda n: n(IDS).last_hidden_state, 2),
    "clip text with a mask": Kind(clip_text, masked, 2),
    "depth": Kind(lambda: tiny_depth_estimator()[0], lambda n: n(draw(1, 3, 64, 64)).predicted_depth, 4),
    "clip vision": Kind(clip_vision, lambda n: n(draw(2, 3, 16, 16)).last_hidden_state, 2),
    "t5": Kind(t5, masked, 2),
}

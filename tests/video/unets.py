"""Small image UNets of random weights in the shapes that there are, and video networks on them."""

import torch
from diffusers import UNet2DConditionModel

from tests.tiny import tiny_unet
from video.network import TemporalLayers, VideoUNet

SD1 = {
    "block_out_channels": (16, 32),
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": 2,
}
SDXL = {
    "block_out_channels": (16, 32, 64),
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "attention_head_dim": (2, 4, 8),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 24,
}
UNETS = {
    "attention everywhere": {},
    "stable diffusion 1": SD1,
    "attention below only": {
        **SD1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "use_linear_projection": True,
    },
    "prompt in the noise level": {"addition_embed_type": "text", "addition_embed_type_num_heads": 4},
    "three levels": {
        **SD1,
        "block_out_channels": (16, 16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "center_input_sample": True,
    },
    "sdxl": SDXL,
}
# Others of diffusers' blocks; the written-out reference does not know them.
OTHERS = {
    "attention without the prompt": {
        **SD1,
        "down_block_types": ("AttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "AttnUpBlock2D"),
    },
    "deepfloyd": {
        **SD1,
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "resnet_time_scale_shift": "scale_shift",
        "time_embedding_act_fn": "gelu",
    },
}


def video(unet: UNet2DConditionModel, gate: float | None = None, **options) -> VideoUNet:
    """With attention over space and time on the lowest level. gate: of every temporal layer; a new one's where None."""
    temporal = TemporalLayers.for_unet(unet, embed_dim=32, head_dim=16, space_time_levels=1)
    if gate is not None:
        for name, parameter in temporal.named_parameters():
            if name.endswith("gate"):
                parameter.data.fill_(gate)
    return VideoUNet(unet.requires_grad_(False), temporal, **options).eval()


def inputs(size=(16, 16), frames=3, text=32):
    """Two clips, their noise levels and prompts."""
    torch.manual_seed(7)
    return torch.randn(2, 4, frames, *size), torch.tensor([20, 900]), torch.randn(2, 6, text)


def added(config):
    """What a UNet of this configuration is told beside the prompt, for two clips."""
    if config.get("addition_embed_type") != "text_time":
        return {}
    torch.manual_seed(8)
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64], [32, 64, 0, 8, 64, 32]])
    return {"text_embeds": torch.randn(2, 24), "time_ids": sizes}


__all__ = ["OTHERS", "SD1", "SDXL", "UNETS", "added", "inputs", "tiny_unet", "video"]

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from shared.models.look.lora import lora_of
from tests.tiny import tiny_unet


def kohya(width, rank=4, prefix="lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"):
    return {
        f"{prefix}.lora_down.weight": (rank, width),
        f"{prefix}.lora_up.weight": (320, rank),
        f"{prefix}.alpha": (),
    }


@pytest.mark.parametrize(
    ("header", "metadata", "target"),
    [
        (kohya(768), {}, "Stable Diffusion 1"),
        (kohya(1024), {}, "Stable Diffusion 2"),
        (kohya(2048), {}, "Stable Diffusion XL"),
        (kohya(777), {}, None),
        (kohya(777), {"modelspec.architecture": "something/lora"}, "something/lora"),
        (kohya(64, prefix="lora_te2_text_model_encoder_layers_0_mlp_fc1"), {}, "Stable Diffusion XL"),
        (kohya(64, prefix="lora_unet_double_blocks_0_img_attn_qkv"), {}, "Flux"),
        ({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (16, 3072)}, {}, "Flux"),
        ({"transformer.joint_transformer_blocks.0.attn.to_q.lora_A.weight": (16, 3072)}, {}, "Stable Diffusion 3"),
        ({"diffusion_model.blocks.0.self_attn.q.lora_A.weight": (16, 1536)}, {}, "Wan"),
        ({"down_blocks.0.motion_modules.0.x.to_q.lora.down.weight": (16, 320)}, {}, "AnimateDiff"),
        ({"lora_temporal_blocks_0_conv_conv1.lora_down.weight": (8, 64, 3, 1)}, {}, "Kinoform's temporal layers"),
    ],
)
def test_targets(header, metadata, target):
    assert lora_of(header, metadata).target == target


def test_ranks_and_layers():
    header = {**kohya(768), **kohya(768, 8, "lora_te_text_model_encoder_layers_0_mlp_fc1")}
    lora = lora_of(header, {})
    assert (lora.kind, lora.ranks, lora.changes) == ("LoRA", (4, 8), {"denoiser": 1, "text encoder": 1})


def test_relatives_and_others():
    assert lora_of({"lora_unet_x.hada_w1_a": (320, 4), "lora_unet_x.hada_w1_b": (4, 320)}, {}).kind == "LoHa"
    assert lora_of({"lora_unet_x.lokr_w1": (8, 8)}, {}).kind == "LoKr"
    assert lora_of({**kohya(768), "lora_unet_x.dora_scale": (1, 320)}, {}).kind == "DoRA"
    assert lora_of({"conv_in.weight": (320, 4, 3, 3)}, {}) is None


def test_what_peft_and_diffusers_write():
    unet: UNet2DConditionModel = tiny_unet(cross_attention_dim=768)
    unet.add_adapter(LoraConfig(r=3, target_modules=["to_k", "to_q"]))
    states = get_peft_model_state_dict(unet)
    lora = lora_of({f"unet.{name}": tuple(tensor.shape) for name, tensor in states.items()}, {})
    modules = [name for name, module in unet.named_modules() if name.endswith(("to_k", "to_q"))]
    assert (lora.ranks, lora.target) == ((3,), "Stable Diffusion 1")
    assert lora.changes == {"denoiser": len(modules)}
    assert all(isinstance(tensor, torch.Tensor) for tensor in states.values())

"""Original names of transformers and their autoencoders to diffusers' and back: the same tensors."""

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    FluxTransformer2DModel,
    LTXVideoTransformer3DModel,
    SD3Transformer2DModel,
    WanTransformer3DModel,
)
from safetensors.torch import save_file

from shared.errors import ModelError
from shared.models.configs import changed
from shared.models.layouts.family import family_of
from shared.models.layouts.original_networks import _change, network_tensors, of_component, renamed
from tests.shared.models.layouts import original_transformers as original
from tests.shared.models.layouts.narrow import vae_name
from tests.shared.models.pipelines.tiny.clips import ltx_parts, wan_parts
from tests.shared.models.pipelines.tiny.images import stable_diffusion_3


def sd_35():
    """Stable Diffusion 3.5 has all that 3 has: normed queries, and layers with a second attention."""
    config = stable_diffusion_3().transformer.config
    network = SD3Transformer2DModel.from_config(
        changed(config, num_layers=3, qk_norm="rms_norm", dual_attention_layers=(0, 1))
    )
    assert {"transformer_blocks.1.attn2.norm_q.weight"} < network.state_dict().keys()
    return network


def flux():
    """As wide as Flux is, as diffusers' conversion knows no other width; weights follow."""
    with torch.device("meta"):
        return FluxTransformer2DModel(
            num_layers=1, num_single_layers=1, joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=True
        )


def kl():
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4, norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=16, use_quant_conv=False,
        use_post_quant_conv=False,
    )  # fmt: skip


def kl_original(state):
    matrices = {name for name, tensor in state.items() if ".attentions." in name and tensor.ndim == 2}
    return {vae_name(name): tensor[:, :, None, None] if name in matrices else tensor for name, tensor in state.items()}


NETWORKS = {  # what it is called in a file, a network, the way back, and its family
    "SD3Transformer2DModel": ("transformer", sd_35, original.stable_diffusion_3, "Stable Diffusion 3"),
    "FluxTransformer2DModel": ("transformer", flux, original.flux, "Flux"),
    "WanTransformer3DModel": ("transformer", lambda: wan_parts()["transformer"], original.wan, "Wan"),
    "LTXVideoTransformer3DModel": ("transformer", lambda: ltx_parts()["transformer"], original.ltx, "LTX-Video"),
    "AutoencoderKL": ("vae", kl, kl_original, None),
    "AutoencoderKLWan": (
        "vae", lambda: AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 2, 4, 4]), original.wan_vae, "Wan",
    ),
    "AutoencoderKLLTXVideo": ("vae", lambda: ltx_parts()["vae"], original.ltx_vae, None),
}  # fmt: skip
CLASSES = {
    kind.__name__: kind
    for kind in (
        SD3Transformer2DModel, FluxTransformer2DModel, WanTransformer3DModel, LTXVideoTransformer3DModel,
        AutoencoderKL, AutoencoderKLWan, AutoencoderKLLTXVideo,
    )
}  # fmt: skip


def numbered(network):
    """Every tensor with numbers of its own, of one byte: no two of one size are alike."""
    draw = torch.Generator().manual_seed(0)
    return {
        name: torch.randint(-128, 128, tensor.shape, dtype=torch.int8, generator=draw)
        for name, tensor in network.state_dict().items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back(name, tmp_path):
    component, build, back, family = NETWORKS[name]
    network = build()
    assert type(network) is CLASSES[name]
    wanted = numbered(network)
    stored = {key: tensor.contiguous() for key, tensor in back(wanted).items()}
    assert family is None or family_of({key: tuple(tensor.shape) for key, tensor in stored.items()}) == family
    assert len(stored.keys() & wanted.keys()) < len(stored) / 2  # else there is little to show
    if name == "FluxTransformer2DModel":  # half a gigabyte
        got = renamed(network, network.config, stored, tmp_path)
    else:
        save_file(stored, tmp_path / "a.safetensors")
        got = network_tensors(component, network, network.config, tmp_path / "a.safetensors")
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[key], tensor) for key, tensor in wanted.items())


def test_every_class_with_an_original_layout_is_known():
    for kind in CLASSES.values():
        assert _change(kind) is not None
    assert _change(torch.nn.Linear) is None


def test_of_a_file_with_several_parts_each_is_taken():
    stored = {"model.diffusion_model.a": torch.ones(1), "vae.b": torch.ones(1), "text_encoders.c": torch.ones(1)}
    assert of_component("transformer", stored).keys() == {"model.diffusion_model.a"}
    assert of_component("vae", stored).keys() == {"vae.b"}
    assert of_component("vae", {"a": torch.ones(1)}).keys() == {"a"}


FAULTS = {
    "one missing": (lambda tensors: tensors.pop("head.head.bias"), "1 missing, first proj_out.bias"),
    "half missing": (
        lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("blocks.")],
        r"\d\d missing, first blocks.0.attn1.norm_k.weight",
    ),
    "left over": (lambda tensors: tensors.update(other=torch.ones(1)), "1 left over, first other"),
    "misshapen": (
        lambda tensors: tensors.update({"head.head.bias": torch.ones(3)}),
        r"proj_out.bias: expected shape \(64,\), got \(3,\)",
    ),
    "another network": (
        lambda tensors: (
            [tensors.pop(name) for name in list(tensors)]
            and tensors.update({"double_blocks.0.img_attn.norm.key_norm.scale": torch.ones(1)})
        ),
        "expected those of a WanTransformer3DModel, got Flux",
    ),
    "no network": (
        lambda tensors: [tensors.pop(name) for name in list(tensors)] and tensors.update(a=torch.ones(1)),
        "expected those of a WanTransformer3DModel, got 1 tensors, none of which fits",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_one_line_that_says_which(fault, tmp_path):
    network = wan_parts()["transformer"]
    tensors = original.wan(network.state_dict())
    FAULTS[fault][0](tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=FAULTS[fault][1]) as caught:
        network_tensors("transformer", network, network.config, tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)
    assert "a.safetensors" in str(caught.value)


def test_a_file_of_a_family_that_its_conversion_stumbles_over(tmp_path):
    """Stable Diffusion 3's looks for names; what it lacks is said, and what it is of where that is known."""
    network = sd_35()
    save_file({"patchify_proj.weight": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="expected those of a SD3Transformer2DModel, got LTX-Video"):
        network_tensors("transformer", network, network.config, tmp_path / "a.safetensors")
    stored = original.stable_diffusion_3(network.state_dict())
    del stored["model.diffusion_model.x_embedder.proj.bias"]
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match=r"x_embedder\.proj\.bias"):
        network_tensors("transformer", network, network.config, tmp_path / "b.safetensors")

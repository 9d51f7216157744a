from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from shared.errors import ModelError
from shared.models.weight_files import read_header
from shared.models.weights import check_finite, compare, load_network
from tests.near import near


def test_the_first_difference_is_named():
    where = Path("unet")
    wanted = {"a": (1, 2), "b": (3,)}
    compare(wanted, dict(wanted), where)
    for got, message in (
        ({"c": (1,)}, "tensors such as a, got 1 tensors, none of which fits"),
        ({}, "none of which fits"),
        ({"a": (2, 1), "b": (3,)}, r"unet: a: expected shape \(1, 2\), got \(2, 1\)"),
        ({"a": (1, 2)}, "1 missing, first b"),
        ({**wanted, "d": (1,), "c": (1,)}, "2 left over, first c"),
    ):
        with pytest.raises(ModelError, match=message):
            compare(wanted, got, where)


def test_weights_must_be_finite():
    check_finite({"a": torch.ones(3), "ids": torch.arange(3)}, Path("unet"))
    for value in (torch.nan, torch.inf, -torch.inf):
        with pytest.raises(ModelError, match="unet: b"):
            check_finite({"a": torch.ones(3), "b": torch.tensor([0.0, value]).half()}, Path("unet"))


def test_names_and_shapes_of_older_releases(tmp_path):
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).eval()
    vae.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def age(tensors):
        for name in list(tensors):
            for now, then in new.items():
                if f".attentions.0.{now}." in name:
                    tensor = tensors.pop(name)
                    tensors[name.replace(now, then)] = tensor[..., None, None].clone() if tensor.ndim == 2 else tensor

    tensors = load_file(file)
    age(tensors)
    save_file(tensors, file)
    assert "encoder.mid_block.attentions.0.proj_attn.weight" in read_header(file)
    config = AutoencoderKL.load_config(tmp_path)
    loaded = load_network(lambda: AutoencoderKL.from_config(config), tmp_path, device="cpu", dtype=torch.float32)
    image = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        near(loaded.encode(image).latent_dist.mean, vae.encode(image).latent_dist.mean)

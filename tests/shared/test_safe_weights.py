import hashlib
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from shared.errors import ModelError
from shared.safe_weights import check_finite, compare, load_network, read_header, read_json, sha256, weight_files
from tests.near import near


def test_headers_tell_names_and_shapes(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"one": torch.zeros(2, 3), "two": torch.zeros(()), "three": torch.zeros(4).half()}, file)
    assert read_header(file) == {"one": (2, 3), "two": (), "three": (4,)}
    whole = file.read_bytes()
    for length in (0, 4, 20, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="whole safetensors file"):
            read_header(file)
    with pytest.raises(ModelError):
        read_header(tmp_path / "none.safetensors")


def test_sha256_is_of_the_bytes(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(bytes(range(256)) * 9000)  # more than one block
    assert sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()


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


def test_the_file_without_a_variant_is_the_one(tmp_path):
    for name in ("model.fp16.safetensors", "pytorch_model.bin"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match="pickle"):
        weight_files(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]
    with pytest.raises(ModelError, match="subfolder none"):
        weight_files(tmp_path / "none")


def test_json_must_be_an_object(tmp_path):
    file = tmp_path / "config.json"
    for content in (b"", b"{", b"[]", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(ModelError, match=r"config\.json: expected a JSON object"):
            read_json(file)
    file.write_text('{"a": 1}')
    assert read_json(file) == {"a": 1}


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

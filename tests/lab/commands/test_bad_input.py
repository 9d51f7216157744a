"""What people give by mistake or in bad faith, by the command: one line and exit 2; and what looks odd and is right."""

import json
import pickle
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lab.main import main
from tests.lab.command import is_refusal
from tests.tiny import build_image_folder

UNET = "unet/diffusion_pytorch_model.safetensors"
SHORT = ["--steps", "4", "--device", "cpu"]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return build_image_folder(tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def model(good, tmp_path):
    """A copy to break."""
    return shutil.copytree(good, tmp_path / "model")


def with_header(file: Path, header: bytes, data: bytes = bytes(64)) -> None:
    file.write_bytes(struct.pack("<Q", len(header)) + header + data)


def pickled(model):
    (model / UNET).write_bytes(pickle.dumps({"weight": [1.0] * 99}, protocol=4))


def header_bomb(model):
    with_header(model / UNET, b'{"a":' * 100_000 + b"1" + b"}" * 100_000)


def huge_header(model):
    (model / UNET).write_bytes(struct.pack("<Q", 2**63 - 1) + b"{}")


def overlapping(model):
    entry = {"dtype": "U8", "shape": [40], "data_offsets": [0, 40]}
    header = {"a": entry, "b": {**entry, "data_offsets": [24, 64]}}
    with_header(model / UNET, json.dumps(header).encode())


def not_finite(model):
    tensors = load_file(model / UNET)
    tensors["conv_in.bias"][0] = torch.nan
    save_file(tensors, model / UNET)


def without_a_part(model):
    shutil.rmtree(model / "vae")


def without_weights(model):
    (model / UNET).unlink()


def of_its_own_code(model):
    index = json.loads((model / "model_index.json").read_text("utf-8"))
    index["unet"] = ["mine", "Unet"]
    (model / "model_index.json").write_text(json.dumps(index), "utf-8")
    for place in (model, model / "unet"):
        (place / "mine.py").write_text(f"open({str(model / 'it ran')!r}, 'w')\n")


MODELS = {
    pickled: ("unet", "a pickle, which can run code when it is opened"),
    header_bomb: ("unet", "a whole safetensors file", "more than 64"),
    huge_header: ("unet", "a header of 9223372036854775807 bytes"),
    overlapping: ("unet", "b at 24 instead of 40"),
    not_finite: ("conv_in.bias", "finite", "NaN"),
    without_a_part: ("a subfolder vae", "none"),
    without_weights: ("weights in", "unet", "none"),
    of_its_own_code: ("unet", "Unet"),
}


@pytest.mark.parametrize("fault", MODELS, ids=lambda fault: fault.__name__)
def test_a_model_with_a_fault_is_refused(model, tmp_path, capsys, fault):
    fault(model)
    code = main(["image", "a cube", "--model", str(model), *SHORT, "-o", str(tmp_path / "out.png")])
    assert is_refusal(code, capsys.readouterr().err, *MODELS[fault])
    assert not (tmp_path / "out.png").exists()
    assert not (model / "it ran").exists()


def test_code_beside_a_model_is_left_alone(model, tmp_path, capsys):
    for name in ("unet/unet.py", "pipeline.py", "sitecustomize.py"):
        (model / name).write_text(f"open({str(model / 'it ran')!r}, 'w')\n")
    assert main(["image", "a cube", "--model", str(model), *SHORT, "-o", str(tmp_path / "out.png")]) == 0
    assert not (model / "it ran").exists()


def test_a_model_of_the_hub_while_offline(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code = main(["image", "a cube", "--model", "owner/name", *SHORT, "-o", str(tmp_path / "out.png")])
    assert is_refusal(code, capsys.readouterr().err, "owner/name", "hub's cache", "HF_HUB_OFFLINE")


def lora(file, layer, width):
    names = (f"{layer}.lora_down.weight", f"{layer}.lora_up.weight")
    save_file({names[0]: torch.ones(4, width), names[1]: torch.ones(width, 4)}, file)
    return str(file)


KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


@pytest.mark.parametrize(
    ("layer", "width", "own", "other"),
    [
        (KOHYA, 2048, 768, ("one for Stable Diffusion 1", "one for Stable Diffusion XL")),
        (KOHYA, 768, 2048, ("one for Stable Diffusion XL", "one for Stable Diffusion 1")),
        ("transformer.single_transformer_blocks.0.attn.to_k", 3072, 1024, ("for Stable Diffusion 2", "one for Flux")),
        ("transformer.joint_transformer_blocks.0.attn.to_k", 64, 32, ("text of width 32", "Stable Diffusion 3")),
        (KOHYA, 2048, 32, ("a change of 32 x 32", "one of 2048 x 2048", "another architecture")),
    ],
)
def test_a_lora_of_another_architecture_names_both(model, tmp_path, capsys, layer, width, own, other):
    config = json.loads((model / "unet/config.json").read_text("utf-8"))
    (model / "unet/config.json").write_text(json.dumps({**config, "cross_attention_dim": own}), "utf-8")
    flags = ["--lora", lora(tmp_path / "style.safetensors", layer, width), "-o", str(tmp_path / "out.png")]
    code = main(["image", "a cube", "--model", str(model), *SHORT, *flags])
    assert is_refusal(code, capsys.readouterr().err, "style.safetensors", f"model {model}"[:20], *other)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def enormous_png(file):
    """65,535 x 65,535 pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 65_535, 65_535, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(3 * 65_535 + 1))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def cut_jpeg(file):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    file.write_bytes(file.read_bytes()[:900])


PICTURES = {enormous_png: ("4294836225 pixels",), cut_jpeg: ("a readable image", "truncated")}


@pytest.mark.parametrize("fault", PICTURES, ids=lambda fault: fault.__name__)
def test_a_picture_with_a_fault_is_refused_before_the_model_is_loaded(good, tmp_path, capsys, monkeypatch, fault):
    monkeypatch.setattr("shared.models.image_model.load_image_model", None)
    file = tmp_path / "given.png"
    fault(file)
    code = main(["image", "a", "--model", str(good), "--image", str(file), *SHORT, "-o", str(tmp_path / "out.png")])
    assert is_refusal(code, capsys.readouterr().err, "given.png", *PICTURES[fault])


def sixteen_bits(file, pixels):
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(file.with_suffix(".png"))
    return file.with_suffix(".png"), np.repeat(pixels[..., :1], 3, axis=-1)


def cmyk(file, pixels):
    inks = np.concatenate([255 - pixels, np.zeros_like(pixels[..., :1])], axis=-1)
    Image.fromarray(inks, "CMYK").save(file.with_suffix(".jpg"), quality=100, subsampling=0)
    return file.with_suffix(".jpg"), pixels


def alpha(file, pixels):
    """Transparent on its left half, where it lies on white."""
    cover = np.full_like(pixels[..., :1], 255)
    cover[:, :32] = 0
    Image.fromarray(np.concatenate([pixels, cover], axis=-1)).save(file.with_suffix(".png"))
    return file.with_suffix(".png"), np.where(cover == 0, 255, pixels)


def turned(file, pixels):
    """Stored on its side; EXIF says how it is to be held."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(file.with_suffix(".png"), exif=exif)
    return file.with_suffix(".png"), pixels


@pytest.mark.parametrize("write", [sixteen_bits, cmyk, alpha, turned], ids=lambda write: write.__name__)
def test_an_odd_picture_is_the_plain_one(good, tmp_path, write):
    """Of all of it but a corner, which is painted anew, the result shows the picture itself."""
    grid = np.mgrid[0:64, 0:64] * 3
    file, plain = write(tmp_path / "given", np.stack([grid[0], grid[1], 200 - grid[0]], axis=-1).astype(np.uint8))
    mask = np.zeros((64, 64), np.uint8)
    mask[:8, :8] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    out = tmp_path / "out.png"
    flags = ["--image", str(file), "--mask", str(tmp_path / "mask.png"), "-o", str(out)]
    assert main(["image", "a", "--model", str(good), *flags, *SHORT]) == 0
    off = np.abs(np.asarray(Image.open(out)).astype(int) - plain)[mask == 0]
    assert off.max() <= (12 if write is cmyk else 1)  # JPEG's own loss; 8 bits of 16

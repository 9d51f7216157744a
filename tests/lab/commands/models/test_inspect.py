"""`kinoform inspect`, and how every kind of bad model is one line."""

import json
import struct
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from lab.main import main
from tests.lab.command import environment, is_refusal
from tests.tiny import build_image_folder

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_image_folder(tmp_path_factory.mktemp("models") / "mine")


def test_inspect(folder, capsys):
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert main(["inspect", str(folder)]) == 0
    text = capsys.readouterr().out
    for part in ("diffusers folder", "UNet2DConditionModel", "F16", "v_prediction", "64x64", "mit", "image, asset"):
        assert part in text
    assert main(["inspect", str(folder), "--json", "--hashes"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parts"]["unet"]["parameters"] == sum(tensor.numel() for tensor in load_file(folder / UNET).values())
    assert len(found["hashes"]) == 3
    assert found["licence"] == "mit"
    assert main(["inspect", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hashes"] is None


def test_inspect_names_a_lora(tmp_path, capsys):
    save_file({"lora_unet_x_attn2_to_k.lora_down.weight": torch.ones(4, 768)}, tmp_path / "style.safetensors")
    assert main(["inspect", str(tmp_path / "style.safetensors")]) == 0
    text = capsys.readouterr().out
    assert "LoRA file" in text
    assert "rank 4; for Stable Diffusion 1; changes 1 layers of the denoiser" in text


@pytest.mark.parametrize("arguments", [["inspect", "world"], ["models", "--no-hub"], ["convert", "--help"]])
def test_it_is_quick_and_imports_no_torch(arguments, tmp_path):
    program = "import sys; from lab.main import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, env=environment(), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 5  # measured: 0.3 on a quiet machine


def with_header(file, text):
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))


def entry(start, stop):
    return {"dtype": "U8", "shape": [stop - start], "data_offsets": [start, stop]}


BAD = {
    "a pickle by another name": (lambda file: torch.save({"a": torch.ones(2)}, file), "a pickle"),
    "a huge header": (lambda file: file.write_bytes(struct.pack("<Q", 2**62) + b"{}"), "a header of 4611686"),
    "a deep header": (lambda file: with_header(file, b'{"a":' * 9999 + b"1" + b"}" * 9999), "more than 64"),
    "overlapping tensors": (
        lambda file: with_header(file, json.dumps({"a": entry(0, 40), "b": entry(20, 64)}).encode()),
        "b at 20 instead of 40",
    ),
    "an empty file": (lambda file: file.write_bytes(b""), "a header of 0 bytes"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("command", [["inspect"], ["image", "a cube", "-o", "out.png", "--model"]])
def test_bad_files(kind, command, tmp_path, monkeypatch, capsys):
    make, message = BAD[kind]
    make(tmp_path / "a.safetensors")
    monkeypatch.chdir(tmp_path)
    code = main([*command, "a.safetensors"])
    assert is_refusal(code, capsys.readouterr().err, "a.safetensors", message)


@pytest.mark.parametrize("hub_id", ["owner/name", "runwayml/stable-diffusion-v1-5"])
def test_the_hub_without_a_network(hub_id, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for command in (["inspect"], ["image", "a cube", "-o", str(tmp_path / "out.png"), "--model"]):
        start = time.perf_counter()
        code = main([*command, hub_id])
        hint = "Check the name" if hub_id == "owner/name" else "stable-diffusion-v1-5/stable-diffusion-v1-5"
        assert is_refusal(code, capsys.readouterr().err, hub_id, hint)
        assert time.perf_counter() - start < 2

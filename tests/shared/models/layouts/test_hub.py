"""A model as the hub's client fetches it, from a server of the hub's protocol, and as it keeps it: names that are links
to files named by their contents.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.session import load
from shared.artifacts.files import sha256
from shared.artifacts.media import read_image
from shared.errors import ModelError
from shared.models.image_model import load_image_model
from shared.models.layouts.hub import cache_folder, cached, cached_models, wanted
from shared.models.source import check_model, resolve_model
from shared.models.weight_files import weight_hashes
from tests.lab.command import command, environment, is_refusal
from tests.shared.models.layouts.hub_server import hub
from tests.tiny import build_image_folder, tiny_unet

REVISION = "0123456789abcdef"
UNET, SHARD = "unet/diffusion_pytorch_model", "-00001-of-00002"
OTHERS = [
    "README.md",
    "v1-5-pruned.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "vae/diffusion_flax_model.msgpack",
]
FOLDER = ["model_index.json", "tokenizer/vocab.json", "tokenizer/merges.txt", "text_encoder/model.safetensors"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with the model owner/name in it, as links."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))  # read when it was imported
    fill_cache(tmp_path, build_image_folder(tmp_path / "made"))
    return tmp_path


def fill_cache(cache: Path, folder: Path) -> None:
    place = cache / "models--owner--name"
    (place / "blobs").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(REVISION)
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        blob = place / "blobs" / sha256(file)
        link = place / "snapshots" / REVISION / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blob)
        link.symlink_to(Path("../" * (len(file.relative_to(folder).parts) + 1)) / "blobs" / blob.name)


def test_links_load(cache):
    snapshot = cached("owner/name")
    check_model("owner/name")
    assert resolve_model("owner/name") == snapshot == cache / "models--owner--name/snapshots" / REVISION
    model = load_image_model("owner/name")
    wanted = tiny_unet().half().float().state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.unet.state_dict().items())
    assert weight_hashes(snapshot) == weight_hashes(cache / "made")
    assert list(cached_models()) == [("owner/name", snapshot)]


def test_a_variant_alone_loads(cache):
    snapshot = cached("owner/name")
    before = load_image_model(snapshot)
    for file in list(snapshot.rglob("*.safetensors")):
        file.rename(file.with_suffix(".fp16.safetensors"))
    check_model("owner/name")
    after = load_image_model(snapshot)
    wanted = before.unet.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in after.unet.state_dict().items())


def test_a_link_to_nothing_is_no_file(cache):
    snapshot = cached("owner/name")
    unet = snapshot / "unet/diffusion_pytorch_model.safetensors"
    unet.resolve().unlink()
    with pytest.raises(ModelError, match=r"weights in .*unet"):
        check_model(snapshot)


def test_without_a_main_branch_the_newest_snapshot_is_taken(cache):
    (cache / "models--owner--name/refs/main").unlink()
    assert cached("owner/name") == cache / "models--owner--name/snapshots" / REVISION
    (cache / "models--owner--name/refs/main").write_text("../../../made")
    assert cached("owner/name") == cache / "models--owner--name/snapshots" / REVISION
    assert cached("owner/other") is None


def test_where_the_cache_is(monkeypatch, tmp_path):
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path.home() / ".cache/huggingface/hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "huggingface/hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home/hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache"


@pytest.mark.parametrize(("there", "taken"), [
    ([f"{UNET}.safetensors", f"{UNET}.fp16.safetensors", f"{UNET}.non_ema.safetensors"], [0]),
    ([f"{UNET}.fp16.safetensors", f"{UNET}.non_ema.safetensors"], [0]),
    ([f"{UNET}.non_ema.safetensors"], [0]),
    ([f"{UNET}{SHARD}.safetensors", f"{UNET}.safetensors.index.json", f"{UNET}.fp16{SHARD}.safetensors",
      f"{UNET}.safetensors.index.fp16.json"], [0, 1]),
    ([f"{UNET}.bf16{SHARD}.safetensors", f"{UNET}.safetensors.index.bf16.json",
      f"{UNET}{SHARD}.fp16.safetensors", f"{UNET}.safetensors.index.fp16.json"], [2, 3]),
])  # fmt: skip
def test_of_every_part_one_variant_is_taken(there, taken):
    assert wanted(FOLDER + there + OTHERS) == sorted([*FOLDER, *(there[index] for index in taken)])


@pytest.mark.parametrize("weights", ["model.safetensors", "open_clip_model.safetensors"])
def test_of_one_network_what_lies_at_the_top_is_taken(weights):
    network = ["config.json", "merges.txt", weights]
    assert wanted([*network, "pytorch_model.bin", "onnx/model.safetensors", "onnx/config.json"]) == sorted(network)


def kinoform(address, folder, *arguments):
    wants = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(folder / "hub")}
    return subprocess.run(
        command(*arguments), cwd=folder, env={**environment(), **wants}, capture_output=True, text=True, timeout=200
    )


def test_a_model_in_half_precision_alone_is_fetched_once_and_makes_what_its_folder_makes(tmp_path):
    model = build_image_folder(tmp_path / "tiny")
    half = shutil.copytree(model, tmp_path / "half")
    weights = half / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    (half / "unet/diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    making = ("image", "a red cube", "--steps", "2", "-o")
    with hub({"owner/tiny": half}, withheld=["vae/config.json"]) as (address, first):
        part = kinoform(address, tmp_path, *making, "a.png", "--model", "owner/tiny")
    assert is_refusal(part.returncode, part.stderr, "of the hub's files not all"), part.stderr
    with hub({"owner/tiny": half}) as (address, fetched):
        made = kinoform(address, tmp_path, *making, "a.png", "--model", "owner/tiny")
        assert made.returncode == 0, made.stderr
        assert "unet/diffusion_pytorch_model.fp16.safetensors" in first
        assert "unet/diffusion_pytorch_model.bin" not in first
        assert fetched == ["vae/config.json"]  # the rest had come
        missing = kinoform(address, tmp_path, *making, "b.png", "--model", "owner/none")
    assert is_refusal(missing.returncode, missing.stderr, "model owner/none"), missing.stderr
    without = kinoform(address, tmp_path, *making, "b.png", "--model", "owner/tiny")  # the server is gone
    assert without.returncode == 0, without.stderr
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    pixels = load(str(half), device="cpu").image("a red cube", steps=2).pixels
    assert np.array_equal(read_image(tmp_path / "a.png"), pixels)

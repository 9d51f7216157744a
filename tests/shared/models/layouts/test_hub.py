"""A model as the hub's client keeps it: names that are links to files named by their contents."""

import shutil
from pathlib import Path

import pytest
import torch

from shared.artifacts.files import sha256
from shared.errors import ModelError
from shared.models.image_model import load_image_model
from shared.models.layouts.hub import cache_folder, cached, cached_models
from shared.models.source import check_model, resolve_model
from shared.models.weight_files import weight_hashes
from tests.tiny import build_image_folder, tiny_unet

REVISION = "0123456789abcdef"


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

import json
import os

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel

from shared.models import save
from shared.models.save import save_image_model
from shared.models.weights import load_network
from tests.tiny import tiny_scheduler, tiny_text, tiny_unet, tiny_vae


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_stock_classes_read_the_folder_in_single_precision(tmp_path, dtype):
    tokenizer, text_encoder = tiny_text()
    unet = tiny_unet()
    save_image_model(
        tmp_path,
        unet=unet,
        vae=tiny_vae(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=tiny_scheduler(),
        dtype=dtype,
    )
    stored = load_file(tmp_path / "unet/diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert next(unet.parameters()).dtype == torch.float32  # what was given stays as it was
    # Both in one precision: a stock pipeline multiplies the one's output with the other's weights.
    assert CLIPTextModel.from_pretrained(tmp_path / "text_encoder").dtype == torch.float32
    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    assert loaded.dtype == torch.float32
    for name, tensor in unet.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.to(dtype).float())
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "scheduler")
    assert torch.equal(scheduler.alphas_cumprod, tiny_scheduler().alphas_cumprod)
    assert scheduler.config.prediction_type == "v_prediction"
    assert json.loads((tmp_path / "model_index.json").read_text())["vae"] == ["diffusers", "AutoencoderTiny"]
    assert {"vocab.json", "merges.txt"} <= {file.name for file in (tmp_path / "tokenizer").iterdir()}


def test_a_saved_model_does_not_tell_where_its_parts_were_loaded_from(tmp_path):
    tokenizer, text_encoder = tiny_text()
    tiny_unet().save_pretrained(tmp_path / "origin")
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "origin")
    scheduler = tiny_scheduler()
    save_image_model(
        tmp_path / "new", unet=unet, vae=tiny_vae(), text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler
    )
    assert "origin" not in "".join(file.read_text() for file in (tmp_path / "new").rglob("*.json"))


def test_every_file_of_a_saved_model_has_the_mode_of_the_umask(tmp_path):
    """The libraries below write weights that their owner alone may read."""
    tokenizer, text_encoder = tiny_text()
    parts = {"unet": tiny_unet(), "vae": tiny_vae(), "text_encoder": text_encoder, "tokenizer": tokenizer}
    before = os.umask(0o022)
    try:
        save_image_model(tmp_path / "model", **parts, scheduler=tiny_scheduler())
    finally:
        os.umask(before)
    files = {file: file.stat().st_mode & 0o777 for file in (tmp_path / "model").rglob("*") if file.is_file()}
    assert sum(file.suffix == ".safetensors" for file in files) == 3
    assert set(files.values()) == {0o644}


def test_large_weights_come_in_several_files_that_every_loader_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(save, "MOST_BYTES", "100KB")
    unet = tiny_unet()
    save.save_network(tmp_path / "unet", unet)
    files = sorted((tmp_path / "unet").glob("*.safetensors"))
    assert len(files) > 1
    # A file is as full as whole tensors make it: a larger one has a tensor to itself.
    assert all(file.stat().st_size < 110_000 or len(load_file(file)) == 1 for file in files)
    stock = UNet2DConditionModel.from_pretrained(tmp_path / "unet")
    ours = load_network(lambda: tiny_unet(1), tmp_path / "unet", device="cpu", dtype=torch.float32)
    for name, tensor in unet.state_dict().items():
        assert torch.equal(stock.state_dict()[name], tensor.half().float())
        assert torch.equal(ours.state_dict()[name], tensor.half().float())


def test_a_new_network_takes_the_place_of_an_old_one_whole(tmp_path, monkeypatch):
    """No shard of the old one stays beside the new one's single file."""
    monkeypatch.setattr(save, "MOST_BYTES", "100KB")
    save.save_network(tmp_path / "unet", tiny_unet())
    monkeypatch.undo()
    save.save_network(tmp_path / "unet", tiny_unet(1))
    assert [file.name for file in (tmp_path / "unet").glob("*.safetensors")] == ["diffusion_pytorch_model.safetensors"]

"""Model folders: what is written, and that every kind of damage is one clear error."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from shared.errors import ModelError
from tests.tiny import build_image_folder
from tests.video.tiny import build_video_folder
from video.folder import add_temporal, copy_model, load_temporal

WEIGHTS = "diffusion_pytorch_model.safetensors"


def test_written_layers_are_read_back_bit_for_bit(tmp_path):
    folder = build_video_folder(tmp_path / "model")
    layers = load_temporal(folder, dtype=torch.float16)
    stored = load_file(folder / "temporal" / WEIGHTS)
    assert {name: t.dtype for name, t in layers.state_dict().items()} == dict.fromkeys(stored, torch.float16)
    assert all(torch.equal(layers.state_dict()[name], stored[name]) for name in stored)
    assert not layers.training


def test_adding_again_replaces_and_leaves_nothing_behind(tmp_path):
    folder = build_video_folder(tmp_path / "model")
    before = sorted(p.relative_to(folder) for p in folder.rglob("*"))
    layers = load_temporal(folder)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.zero_()
    add_temporal(folder, layers)
    assert sorted(p.relative_to(folder) for p in folder.rglob("*")) == before
    assert set(load_temporal(folder).alphas().values()) == {1.0}


def test_stock_stable_diffusion_gives_the_same_pictures_with_and_without_temporal(tmp_path):
    """No code of ours loads or runs here."""
    pictures = []
    for folder in (build_image_folder(tmp_path / "image"), build_video_folder(tmp_path / "video")):
        pipeline = StableDiffusionPipeline.from_pretrained(folder)
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(3)
        pictures.append(pipeline("a red cube", num_inference_steps=2, generator=generator, output_type="np").images)
    assert (pictures[0] == pictures[1]).all()


def damage_truncate(folder):
    file = folder / "temporal" / WEIGHTS
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def damage_names(folder):
    file = folder / "temporal" / WEIGHTS
    save_file({f"x.{name}": tensor for name, tensor in load_file(file).items()}, file)


def damage_nan(folder):
    file = folder / "temporal" / WEIGHTS
    weights = load_file(file)
    weights["embedding.time.weight"][0, 0] = torch.nan
    save_file(weights, file)


def damage_shape(folder):
    file = folder / "temporal" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "embed_dim": 16}))


def damage_config(folder):
    (folder / "temporal" / "config.json").write_text("{")


def damage_missing(folder):
    (folder / "temporal" / WEIGHTS).unlink()


@pytest.mark.parametrize(
    "damage", [damage_truncate, damage_names, damage_nan, damage_shape, damage_config, damage_missing]
)
def test_damaged_layers_are_one_line_of_error(tmp_path, damage):
    folder = build_video_folder(tmp_path / "model")
    damage(folder)
    with pytest.raises(ModelError, match="temporal") as raised:
        load_temporal(folder)
    assert "\n" not in str(raised.value)


def test_an_image_model_is_no_video_model(tmp_path):
    with pytest.raises(ModelError, match=r"got an image model.*kinoform train video"):
        load_temporal(build_image_folder(tmp_path / "model"))


@pytest.mark.parametrize("temporal", [True, False])
def test_copies_hold_the_components_and_nothing_else(tmp_path, temporal):
    source = build_video_folder(tmp_path / "source")
    (source / "video.pt").write_bytes(b"a checkpoint")
    copy_model(str(source), tmp_path / "out", temporal=temporal)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    components = {"model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae"}
    assert names == components | ({"temporal"} if temporal else set())
    assert ("temporal" in json.loads((tmp_path / "out" / "model_index.json").read_text())) == temporal


def test_a_model_that_is_there_already_is_not_touched(tmp_path):
    out = build_image_folder(tmp_path / "out", seed=1)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    copy_model(str(build_video_folder(tmp_path / "source")), out, temporal=True)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_parts_of_a_model_are_not_overwritten(tmp_path):
    source, out = build_image_folder(tmp_path / "source"), tmp_path / "out"
    (out / "vae").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"vae without model_index\.json"):
        copy_model(str(source), out, temporal=False)
    assert [p.name for p in out.iterdir()] == ["vae"]

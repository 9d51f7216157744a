"""A LoRA of a video model: what it changes, what it leaves, and where that is read again."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from shared.errors import ModelError
from shared.images.generate import sample_images
from shared.images.recipe import ImageRecipe
from shared.models.adapters.layers import TEMPORAL
from shared.models.adapters.lora import fuse_loras
from shared.models.image_model import load_image_model
from shared.rng import generator, normal
from shared.training.personalise import low_rank
from tests.tiny import build_image_folder, tiny_unet
from tests.video.tiny import build_video_folder, small_recipe, write_clips
from video.generate import load_video_model, sample_latents
from video.network import TemporalLayers
from video.recipe import ClipRecipe, VideoLoraTrainRecipe
from video.training.batches import Batch, clips_of, read_folders
from video.training.lora import train
from video.training.stage import train_video

NEAR = 1e-4  # latents are of order 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(build_video_folder(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("data"))


def recipe_of(model, **changes):
    small = {"steps": 4, "frames": 4, "precision": "fp32", "warmup_steps": 1, "ema_decay": 0.0, "learning_rate": 1e-2}
    return VideoLoraTrainRecipe.parse({**small, "layers": "all", "model": model, **changes})


def latents_of(model):
    asked = ClipRecipe(prompt="a red cube moving up", steps=2, frames=4)
    *_, last = sample_latents(model, [asked])
    return last.latents


@pytest.mark.parametrize("networks", ["both", "temporal", "image"])
def test_what_was_trained_is_what_is_loaded(networks, model, clips, tmp_path):
    *_, last = train(recipe_of(model, networks=networks), clips, tmp_path)
    file = str(tmp_path / low_rank.FILE)
    loaded = load_video_model(model, lora=[file])
    assert loaded.image.notes == ()
    assert (latents_of(loaded) - latents_of(last.model())).abs().max() < NEAR
    assert (latents_of(loaded) - latents_of(load_video_model(model))).abs().max() > 10 * NEAR
    assert torch.equal(latents_of(load_video_model(model, lora=[f"{file}:0"])), latents_of(load_video_model(model)))
    begins = {"both": {"lora_unet", "lora_temporal"}}.get(networks, {f"lora_{networks.replace('image', 'unet')}"})
    assert {"_".join(name.split("_")[:2]) for name in load_file(file)} == begins


def test_the_models_own_weights_stay(model, clips, tmp_path):
    *_, last = train(recipe_of(model), clips, tmp_path)
    before, after = load_video_model(model).network.state_dict(), last.model().network.state_dict()
    kept = {name.replace(".base_layer", ""): tensor for name, tensor in after.items() if ".lora_" not in name}
    assert kept.keys() == before.keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in before.items())


def test_checkpointing_trains_the_same(model, clips, tmp_path):
    losses = [
        [state.loss for state in train(recipe_of(model, checkpointing=on), clips, tmp_path / str(on))]
        for on in (False, True)
    ]
    assert losses[0] == losses[1]


def test_the_loss_is_that_of_temporal_layers_before_anything_is_learned(model, clips, tmp_path, monkeypatch):
    """The first step's, on the clips that it sees, by `train_video`, whose own loss it must be at equal draws."""
    recipe = recipe_of(model, steps=1, caption_dropout=0.0, batch_size=4)
    (state,) = train(recipe, clips, tmp_path)
    loaded = load_video_model(model)
    folders = clips_of(read_folders(clips, loaded.image.codec, size=64, frames=4))
    ((media, latents),) = folders
    order = torch.randperm(4, generator=generator(0, 0, 1)).tolist()
    x0 = latents[order].float().transpose(1, 2)
    tokens = loaded.image.text.encode([media.captions[i] for i in order])
    draw = generator(0, 0, 0)
    torch.rand(4, generator=draw)  # which captions are left out: none
    monkeypatch.setattr("video.training.stage.generator", lambda *numbers: draw)
    same = small_recipe(steps=1, noise_bias=recipe.noise_bias, min_snr_gamma=recipe.min_snr_gamma)
    (wanted,) = train_video(loaded.network, lambda number: Batch(x0, tokens), loaded.image.schedule, same)
    assert state.loss == pytest.approx(wanted.loss, rel=1e-4)


def test_of_the_image_network_alone_stock_diffusers_makes_the_same_picture(model, clips, tmp_path):
    list(train(recipe_of(model, networks="image"), clips, tmp_path))
    file = str(tmp_path / low_rank.FILE)
    pipeline = StableDiffusionPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(file)
    theirs = pipeline(
        "a cube", num_inference_steps=2, guidance_scale=3.0, latents=normal((4, 16, 16), 0)[None], output_type="latent"
    ).images
    recipe = ImageRecipe(prompt="a cube", steps=2, guidance_scale=3.0, guidance_rescale=0.0)
    *_, ours = sample_images(load_image_model(model, lora=[file]), ["a cube"], [0], recipe)
    assert (ours.latents - theirs).abs().max() < 1e-5


def test_temporal_layers_that_a_model_does_not_have_are_refused_or_said(model, clips, tmp_path):
    list(train(recipe_of(model, steps=1, networks="temporal"), clips, tmp_path / "temporal"))
    list(train(recipe_of(model, steps=1), clips, tmp_path / "both"))
    alone, both = (str(tmp_path / name / low_rank.FILE) for name in ("temporal", "both"))
    with pytest.raises(ModelError, match=r"none of which fits, such as temporal\..* It is for clips of a model"):
        load_image_model(model, lora=[alone])
    (note,) = load_image_model(model, lora=[both]).notes
    assert "are not in model" in note
    assert "temporal.blocks_0_" in note
    wide = tiny_unet(block_out_channels=(32, 64))
    said = r"temporal\.blocks_.*expected a change of 256 x 32, as model wide has, got one of 128 x 32"
    with pytest.raises(ModelError, match=said):
        fuse_loras("wide", wide, [], [alone], beside={TEMPORAL: TemporalLayers.for_unet(wide, embed_dim=32)})


def test_a_model_without_temporal_layers_is_refused(clips, tmp_path):
    with pytest.raises(ModelError, match="expected a video model"):
        next(train(recipe_of(str(build_image_folder(tmp_path / "image"))), clips, tmp_path / "out"))

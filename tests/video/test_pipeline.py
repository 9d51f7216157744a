"""The diffusers pipeline: one folder for it and for stock Stable Diffusion, and the same clips as `generate_clip`."""

import json

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from shared.errors import InputError, ModelError
from tests.tiny import build_image_folder, tiny_unet
from tests.video.tiny import build_video_folder
from video.generate import generate_clip, load_video_model
from video.network import TemporalLayers
from video.pipeline import VideoLDMPipeline
from video.recipe import ClipRecipe

CALL = {"frames": 4, "height": 32, "width": 32, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_video_folder(tmp_path_factory.mktemp("video") / "model")


def load(folder, **parts) -> VideoLDMPipeline:
    pipeline = VideoLDMPipeline.from_pretrained(folder, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("window", [None, 3])
def test_pipeline_and_generate_clip_give_the_same_clip(folder, window):
    frames = load(folder)("a red cube", seeds=4, window=window, **CALL).frames
    given = {"frames": 4, "window": window, "height": 32, "width": 32, "steps": 2, "seed": 4}
    recipe = ClipRecipe.parse({"prompt": "a red cube", **given})
    *_, last = generate_clip(load_video_model(folder), recipe)
    assert np.array_equal(frames, last.frames)


def test_saved_pipeline_loads_here_and_its_image_part_in_stock_diffusers(folder, tmp_path):
    pipeline = load(folder)
    pipeline.save_pretrained(tmp_path / "again")
    index = json.loads((tmp_path / "again" / "model_index.json").read_text())
    assert index["temporal"] == ["video.network", "TemporalLayers"]
    again = load(tmp_path / "again")
    assert np.array_equal(again("a red cube", **CALL).frames, pipeline("a red cube", **CALL).frames)

    pictures = []
    for source in (folder, tmp_path / "again"):
        stock = StableDiffusionPipeline.from_pretrained(source)
        stock.set_progress_bar_config(disable=True)
        drawn = stock("a red cube", num_inference_steps=2, generator=torch.Generator().manual_seed(1), output_type="np")
        pictures.append(drawn.images)
    assert np.array_equal(*pictures)


def test_an_image_folder_becomes_a_video_pipeline_with_new_layers(tmp_path):
    image = build_image_folder(tmp_path / "image")
    unet = UNet2DConditionModel.from_pretrained(image / "unet")
    pipeline = load(image, temporal=TemporalLayers.for_unet(unet, embed_dim=32))
    assert pipeline(["a red cube", "a blue cone"], seeds=[1, 2], **CALL).frames.shape == (2, 4, 32, 32, 3)
    latents = pipeline("a red cube", output_type="latent", **CALL).frames
    assert latents.shape == (1, 4, 4, 8, 8)


def test_wrong_calls_are_named(folder, tmp_path):
    pipeline = load(folder)
    with pytest.raises(InputError, match="seeds"):
        pipeline(["a red cube", "a blue cone"], seeds=[1], **CALL)
    with pytest.raises(InputError, match="output_type"):
        pipeline("a red cube", output_type="gif", **CALL)
    other = TemporalLayers.for_unet(tiny_unet(block_out_channels=(16, 16), attention_head_dim=2))
    with pytest.raises(ModelError, match="do not fit"):
        load(folder, temporal=other)

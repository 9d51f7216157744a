"""The diffusers pipeline: one folder for it and for stock Stable Diffusion, and the same clips as `generate_clip`."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, IPNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image

from shared.artifacts.media import write_image
from shared.attention.routing.route import Route
from shared.diffusion.schedule import prediction_type_of
from shared.errors import InputError, ModelError
from tests.tiny import build_image_folder, tiny_unet
from tests.video.tiny import build_video_folder
from video.generate import generate_clip, load_video_model
from video.network import TemporalLayers
from video.pipeline import VideoLDMPipeline
from video.recipe import ClipRecipe

CALL = {"num_frames": 4, "height": 32, "width": 32, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_video_folder(tmp_path_factory.mktemp("video") / "model")


def load(folder, **parts) -> VideoLDMPipeline:
    pipeline = VideoLDMPipeline.from_pretrained(folder, **parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline(folder):
    return load(folder)


@pytest.mark.parametrize("window", [None, 3])
def test_pipeline_and_generate_clip_give_the_same_clip(folder, window):
    pictures = load(folder)("a red cube", seeds=4, window=window, output_type="pil", **CALL).frames
    frames = np.stack([np.stack([np.asarray(picture) for picture in clip]) for clip in pictures])
    given = {"frames": 4, "window": window, "height": 32, "width": 32, "steps": 2, "seed": 4}
    recipe = ClipRecipe.parse({"prompt": "a red cube", **given})
    *_, last = generate_clip(load_video_model(folder), recipe)
    assert np.array_equal(frames, last.frames)


def test_it_begins_and_ends_with_pictures_as_generate_clip_does(tmp_path):
    folder = build_video_folder(tmp_path / "model", known=0.3)
    first, last = (np.full((40, 32, 3), shade, np.uint8) for shade in (40, 220))
    write_image(tmp_path / "first.png", first)
    write_image(tmp_path / "last.png", last)
    clips = load(folder)(
        ["a red cube"] * 2, seeds=[3, 4], image=Image.fromarray(first), last_image=last, output_type="pil", **CALL
    ).frames
    frames = np.stack([np.asarray(picture) for picture in clips[1]])
    files = {"image": str(tmp_path / "first.png"), "last": str(tmp_path / "last.png")}
    given = {"frames": 4, "height": 32, "width": 32, "steps": 2, "seed": 4}
    *_, made = generate_clip(load_video_model(folder), ClipRecipe.parse({"prompt": "a red cube", **given, **files}))
    assert np.abs(frames.astype(int) - made.frames[0]).max() <= 1
    with pytest.raises(InputError, match="num_frames: expected 2 or more, with last_image, got 1"):
        load(folder)("a red cube", last_image=last, **{**CALL, "num_frames": 1})


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


def test_seeds_may_be_of_any_integer_kind_and_count_up_within_a_prompt(folder):
    pipeline = load(folder)
    one, two = (pipeline("a red cube", seeds=seed, **CALL).frames for seed in (7, 8))
    assert np.array_equal(pipeline("a red cube", seeds=np.int64(7), **CALL).frames, one)
    assert np.array_equal(pipeline("a red cube", seeds=np.array([7]), **CALL).frames, one)
    many = pipeline("a red cube", seeds=7, num_videos_per_prompt=2, **CALL).frames
    assert np.abs(many - np.concatenate([one, two])).max() < 1e-3
    assert np.array_equal(pipeline("a red cube", **CALL).frames, pipeline("a red cube", seeds=0, **CALL).frames)


def test_negative_prompts_may_be_one_or_one_each(folder):
    pipeline, prompts = load(folder), ["a red cube", "a blue cone"]
    one = pipeline(prompts, "a duck", **CALL).frames
    assert np.array_equal(pipeline(prompts, ["a duck", "a duck"], **CALL).frames, one)
    assert not np.array_equal(pipeline(prompts, ["a duck", ""], **CALL).frames, one)


def test_embeddings_need_no_text_encoder(folder):
    full = load(folder)
    cond, uncond = full.encode_prompt("a red cube")
    bare = load(folder, text_encoder=None, tokenizer=None)
    given = {"prompt_embeds": cond, "negative_prompt_embeds": uncond}
    assert np.array_equal(bare(**given, **CALL).frames, full("a red cube", **CALL).frames)
    bare(prompt_embeds=cond, guidance_scale=1.0, **CALL)
    for wrong in ({"prompt": "a red cube"}, {"prompt_embeds": cond}):
        with pytest.raises(InputError, match="without a text encoder"):
            bare(**wrong, **CALL)


def test_a_model_of_oblong_pictures_makes_them(folder):
    pipeline = load(folder)
    pipeline.unet.register_to_config(sample_size=(8, 12))
    assert pipeline("a red cube", num_frames=2, num_inference_steps=1).frames.shape == (1, 2, 32, 48, 3)


def test_a_scheduler_that_cannot_sample_is_refused_and_one_of_noise_can(folder):
    pipeline = load(folder)
    config = pipeline.scheduler.config
    pipeline.scheduler = IPNDMScheduler()  # has no prediction_type, and a noise schedule of its own
    with pytest.raises(InputError, match="IPNDMScheduler"):
        pipeline("a red cube", **CALL)
    given = {name: value for name, value in config.items() if name != "prediction_type"}
    pipeline.scheduler = DDIMScheduler.from_config({**given, "rescale_betas_zero_snr": False})
    assert prediction_type_of(pipeline.scheduler) == "epsilon"
    assert np.isfinite(pipeline("a red cube", **CALL).frames).all()


def test_all_attention_of_a_call_goes_through_attend(folder, monkeypatch):
    calls = []
    plain = Route.attend
    monkeypatch.setattr(Route, "attend", lambda self, *args, **given: calls.append(1) or plain(self, *args, **given))
    load(folder)("a red cube", **CALL)
    # In each step seven transformers of two, with all frames together and with each alone; one each for both prompts.
    assert len(calls) == 2 * (14 + 14) + 2


CUBE = {"prompt": "a red cube"}
EMBEDS = torch.zeros(1, 16, 32)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"prompt": []}, "prompt"),
        ({}, "prompt"),
        ({**CUBE, "prompt_embeds": EMBEDS}, "prompt"),
        ({**CUBE, "negative_prompt": ["a", "a"]}, "negative_prompt"),
        ({**CUBE, "negative_prompt": "a", "negative_prompt_embeds": EMBEDS}, "negative_prompt"),
        ({**CUBE, "negative_prompt_embeds": EMBEDS[:, :3]}, "negative_prompt_embeds"),
        ({"prompt": ["a red cube", "a blue cone"], "seeds": [1]}, "seeds"),
        ({**CUBE, "seeds": -1}, "seed"),
        ({**CUBE, "seeds": [True]}, "seed"),
        ({**CUBE, "seeds": 1, "generator": torch.Generator()}, "seeds"),
        ({**CUBE, "generator": [torch.Generator()] * 2}, "generator"),
        ({**CUBE, "latents": torch.zeros(1, 4, 3, 8, 8)}, "latents"),
        ({**CUBE, "output_type": "gif"}, "output_type"),
        ({**CUBE, "num_frames": 0}, "num_frames"),
        ({**CUBE, "num_videos_per_prompt": 0}, "num_videos_per_prompt"),
        ({**CUBE, "window": 1}, "window"),
        ({**CUBE, "height": 0}, "height"),
        ({**CUBE, "width": 33}, "width"),
        ({**CUBE, "num_inference_steps": 0}, "steps"),
        ({**CUBE, "num_inference_steps": 1001}, "steps"),
    ],
)
def test_wrong_calls_are_named(pipeline, wrong, named):
    with pytest.raises(InputError, match=f"^{named}") as error:
        pipeline(**{**CALL, **wrong})
    assert "\n" not in str(error.value)


def test_parts_that_do_not_fit_are_refused(folder):
    other = TemporalLayers.for_unet(tiny_unet(block_out_channels=(16, 16), attention_head_dim=2))
    with pytest.raises(ModelError, match="do not fit"):
        load(folder, temporal=other)

"""Clips from recipes on a tiny model: seeds, batches, sizes, and the sampler against diffusers' scheduler by hand."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from shared.artifacts.pixels import to_uint8
from shared.compute.policy import MemoryPolicy
from shared.diffusion.conditioning import Conditioning
from shared.diffusion.guidance import guided
from shared.errors import InputError, ModelError
from shared.rng import generator, normal
from tests.tiny import build_image_folder, tiny_temporal_vae
from tests.video.tiny import build_video_folder
from video.frames.noise import mixed_noise
from video.generate import decode_clips, generate_clip, generate_clips, load_video_model
from video.recipe import ClipRecipe

RECIPE = {"prompt": "a red cube moving left", "frames": 5, "steps": 3, "width": 32, "height": 32}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_video_model(build_video_folder(tmp_path_factory.mktemp("video") / "model"))


def clip(model, **changes):
    *_, last = generate_clip(model, ClipRecipe.parse({**RECIPE, **changes}))
    return last


def test_states_count_the_steps_and_the_last_has_frames(model):
    states = list(generate_clip(model, ClipRecipe.parse(RECIPE)))
    assert [(s.step, s.total) for s in states] == [(1, 3), (2, 3), (3, 3)]
    assert [s.frames is None for s in states] == [True, True, False]
    assert states[-1].frames.shape == (1, 5, 32, 32, 3)
    assert states[-1].frames.dtype == np.uint8


@torch.no_grad()
def test_sampling_is_diffusers_ddim_over_all_frames(model):
    """The loop written out: mixed noise by seed, guidance at every step, by the prompt and away from what the image
    network says of each frame alone, DDIM's own step, decoding frame by frame."""
    recipe = ClipRecipe.parse({**RECIPE, "seed": 11, "guidance_rescale": 0.0})
    image = model.image
    scheduler = DDIMScheduler.from_config(image.scheduler_config)
    scheduler.set_timesteps(3)
    assert model.network.temporal.noise_share == 0.5  # kept in the model's folder
    x = mixed_noise((4, 5, 8, 8), generator(11), share=0.5)[None]
    cond, uncond = image.text.encode([recipe.prompt]), image.text.encode([""])
    for t in scheduler.timesteps:
        when = t[None]
        conditional = model.network(x, when, cond)
        without = model.network(x, when, uncond)
        alone = torch.stack([image.unet(x[:, :, i], t, encoder_hidden_states=cond).sample for i in range(5)], dim=2)
        v = without + recipe.guidance_scale * (conditional - without)
        v = v + (recipe.temporal_guidance_scale - 1) * (conditional - alone)
        x = scheduler.step(v, t, x).prev_sample
    last = clip(model, seed=11, guidance_rescale=0.0)
    torch.testing.assert_close(last.latents, x, rtol=1e-4, atol=1e-4)
    pixels = torch.stack([image.codec.decode(x[:, :, i])[0] for i in range(5)])
    by_hand = (pixels.permute(0, 2, 3, 1) * 127.5 + 127.5).round().clamp(0, 255).numpy().astype(int)
    assert np.abs(last.frames[0].astype(int) - by_hand).max() <= 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(model):
    assert np.array_equal(clip(model, seed=5).frames, clip(model, seed=5).frames)
    assert not np.array_equal(clip(model, seed=5).frames, clip(model, seed=6).frames)


def test_a_clip_is_the_same_alone_and_in_a_batch(model):
    recipes = [
        ClipRecipe.parse({**RECIPE, "seed": i, "prompt": f"a {c} cube", "negative": "blue" * (i % 2)})
        for i, c in enumerate(["red", "green", "blue", "white"])
    ]
    *_, batch = generate_clips(model, recipes)
    for i, recipe in enumerate(recipes):
        *_, alone = generate_clip(model, recipe)
        assert np.abs(alone.frames[0].astype(int) - batch.frames[i].astype(int)).max() <= 1


def test_memory_modes_change_no_frame_by_more_than_rounding(model):
    plain = clip(model).frames.astype(int)
    for change in ({"decode_frames": 1}, {"decode": "whole"}, {"channels_last": True}, {"window": 5}):
        assert np.abs(clip(model, **change).frames.astype(int) - plain).max() <= 1, change
    rough = np.abs(clip(model, precision="bf16").frames.astype(int) - plain)
    assert 0 < rough.mean() < 4
    assert np.array_equal(clip(model).frames, plain)  # nothing of it stays


def test_windows_are_sampled_to_a_clip_of_all_frames(model):
    windows = clip(model, frames=12, window=4).frames
    assert windows.shape == (1, 12, 32, 32, 3)
    assert not np.array_equal(windows, clip(model, frames=12).frames)


def test_frames_decoded_in_parts_are_those_decoded_at_once(model):
    latents = clip(model, steps=1).latents.repeat(2, 1, 1, 1, 1)
    parts, whole = (decode_clips(model.image, latents, MemoryPolicy(decode="sliced", decode_frames=n)) for n in (3, 10))
    assert np.abs(parts.astype(int) - whole).max() <= 1
    assert parts.shape == (2, 5, 32, 32, 3)


def test_a_model_may_bring_a_decoder_that_looks_across_frames(tmp_path):
    """Its folder names diffusers' class; frames are then those of one decode of the whole clip."""
    folder = build_video_folder(tmp_path / "model")
    shutil.rmtree(folder / "vae")
    tiny_temporal_vae().save_pretrained(folder / "vae")
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["diffusers", "AutoencoderKLTemporalDecoder"]
    (folder / "model_index.json").write_text(json.dumps(index))
    model = load_video_model(folder)
    assert model.image.codec.sees_frames
    last = clip(model, steps=1)
    with torch.no_grad():
        z = last.latents[0].transpose(0, 1) / model.image.codec.vae.config["scaling_factor"]
        by_hand = model.image.codec.vae.decode(z, num_frames=5).sample.clamp(-1, 1)
    assert np.abs(last.frames[0].astype(int) - to_uint8(by_hand).astype(int)).max() <= 1


@pytest.mark.parametrize("frames", [1, 24])
def test_other_numbers_of_frames_than_trained_run(model, frames):
    assert clip(model, frames=frames, steps=1).frames.shape[1] == frames


def test_size_is_the_models_own_unless_given(model):
    assert clip(model, width=None, height=None, frames=2, steps=1).frames.shape == (1, 2, 64, 64, 3)
    assert clip(model, width=48, height=36, frames=2, steps=1).frames.shape == (1, 2, 36, 48, 3)


def test_sizes_off_the_codecs_grid_are_refused(model):
    with pytest.raises(InputError, match="width: expected a multiple of 4 pixels, such as 32 or 36, got 33"):
        clip(model, width=33)


def test_a_batch_of_unlike_recipes_is_refused(model):
    recipes = [ClipRecipe.parse({**RECIPE, "steps": n}) for n in (1, 2)]
    with pytest.raises(InputError, match="steps in one batch"):
        next(generate_clips(model, recipes))


def test_motion_comes_from_temporal_layers_alone(model, tmp_path):
    """With every alpha at 1 a clip is its frames, sampled one by one as pictures from the same noise."""
    from video.network import TemporalLayers, VideoUNet

    unet = model.image.unet
    still = type(model)(model.image, VideoUNet(unet, TemporalLayers.for_unet(unet, embed_dim=32)))
    last = clip(still, guidance_rescale=0.0)
    image = model.image
    scheduler = DDIMScheduler.from_config(image.scheduler_config)
    scheduler.set_timesteps(3)
    frame = normal((4, 5, 8, 8), 0)[None, :, 2]
    cond, uncond = image.text.encode([RECIPE["prompt"]]), image.text.encode([""])
    with torch.no_grad():
        for t in scheduler.timesteps:
            v = guided(image.denoiser, Conditioning(uncond), 5.0)(frame, t[None], Conditioning(cond)).v
            frame = scheduler.step(v, t, frame).prev_sample
    torch.testing.assert_close(last.latents[:, :, 2], frame, rtol=1e-4, atol=1e-4)


def test_an_image_model_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ModelError, match="kinoform train video"):
        load_video_model(build_image_folder(tmp_path / "model"))

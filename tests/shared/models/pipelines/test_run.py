"""Runs of pipelines: against what the class makes itself, and what it costs to stop or to fail."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.model_classes import TINY, look
from shared.errors import InputError, KinoformError
from shared.images.recipe import ImageRecipe
from shared.models.pipelines.load import load_pipeline
from shared.models.pipelines.run import frames_of, run_pipeline
from video.recipe import ClipRecipe

SHORT = {"prompt": "a red cube", "steps": 3, "width": 32, "height": 32}


@pytest.mark.parametrize("name", ["FluxPipeline", "UnCLIPPipeline", "LTXPipeline", "WanImageToVideoPipeline"])
def test_a_class_makes_by_the_command_what_it_makes_itself(name, tmp_path):
    """The rest are tried by `python -m benchmarks.model_classes`."""
    row = look(name, TINY[name], tmp_path)
    assert row.difference <= 1e-4
    assert row.refused.keys() == TINY[name].wrong.keys()
    assert (row.stopped, row.again) == (True, True)


@pytest.fixture(scope="module")
def flux(folder_of):
    return load_pipeline(folder_of("FluxPipeline"))


def picture(**changes):
    return ImageRecipe.parse({**SHORT, **changes})


def made(model, recipe):
    *states, last = run_pipeline(model, recipe)
    assert [state.step for state in states] == [1, 2, 3]
    return last


def test_steps_are_told_and_frames_come_last(flux):
    states = list(run_pipeline(flux, picture()))
    assert [(state.step, state.total) for state in states] == [(1, 3), (2, 3), (3, 3), (3, 3)]
    assert [state.values is None for state in states] == [True, True, True, False]
    np.testing.assert_array_equal(states[-1].made, (states[-1].values * 255).round())
    with pytest.raises(KinoformError, match="step 1 of 3: expected the last"):
        states[0].made  # noqa: B018


def test_the_seed_decides_and_nothing_that_ran_before(flux):
    first = made(flux, picture(seed=1)).values
    torch.manual_seed(7)
    other = made(flux, picture(seed=2)).values
    states = run_pipeline(flux, picture(seed=3))
    next(states)
    states.close()
    np.testing.assert_array_equal(made(flux, picture(seed=1)).values, first)
    assert np.abs(first - other).max() > 1e-2


def test_progress_bars_tell_where_there_is_no_callback(folder_of):
    model = load_pipeline(folder_of("UnCLIPPipeline"))
    recipe = ImageRecipe.parse({"prompt": "a cube", "steps": 2})
    states = list(run_pipeline(model, recipe))
    assert [(state.step, state.total) for state in states][25:27] == [(1, 2), (2, 2)]  # after the prior's own
    assert "progress_bar" not in vars(model.pipeline)


@pytest.mark.parametrize("key", ["guidance_rescale", "decode_frames"])
def test_what_the_class_does_not_take_is_refused_before_the_work(flux, key):
    with pytest.raises(InputError, match="with a FluxPipeline"):
        next(run_pipeline(flux, picture(**{key: 1})))


def test_offload_wants_a_gpu(flux):
    with pytest.raises(InputError, match="offload"):
        next(run_pipeline(flux, picture(offload="model")))


def test_tiles_are_for_one_run(flux):
    assert made(flux, picture(decode="tiled")).values.shape == (1, 32, 32, 3)
    assert flux.pipeline.vae.use_tiling is False


def test_what_the_class_refuses_is_an_input_error_in_a_line(folder_of):
    model = load_pipeline(folder_of("PixArtSigmaPipeline"))
    model.pipeline.transformer.register_to_config(sample_size=7)
    with pytest.raises(InputError, match="PixArtSigmaPipeline refuses: got ValueError: Invalid sample size"):
        list(run_pipeline(model, picture()))


def test_what_is_no_picture_is_an_error(folder_of):
    model = load_pipeline(folder_of("FluxPipeline"))
    with torch.no_grad():
        next(model.pipeline.vae.decoder.parameters()).fill_(torch.nan)
    with pytest.raises(KinoformError, match="got NaN"):
        list(run_pipeline(model, picture()))


def test_a_picture_begins_a_clip_as_its_middle_in_the_clip_s_shape(folder_of, tmp_path):
    model = load_pipeline(folder_of("WanImageToVideoPipeline"))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    wide = np.concatenate([np.zeros_like(pixels), pixels, np.zeros_like(pixels)], axis=1)
    clips = []
    for name, array in (("middle", pixels), ("wide", wide), ("other", pixels[::-1])):
        Image.fromarray(np.ascontiguousarray(array)).save(tmp_path / f"{name}.png")
        recipe = ClipRecipe.parse({**SHORT, "frames": 5, "image": str(tmp_path / f"{name}.png")})
        clips.append(made(model, recipe).values)
    np.testing.assert_array_equal(clips[0], clips[1])
    assert np.abs(clips[0] - clips[2]).max() > 1e-3


def test_frames_of_whatever_comes_out():
    values = np.random.default_rng(0).random((2, 4, 5, 3)).astype(np.float32)
    eight = (values * 255).round().astype(np.uint8)
    pictures = [Image.fromarray(frame) for frame in eight]
    tensor = torch.from_numpy(values).movedim(-1, 1)
    clips = {"array": values[None], "tensor": tensor[None], "list": [pictures], "alone": values}
    for name, clip in clips.items():
        np.testing.assert_allclose(frames_of((clip,)[0], clip=True), values, atol=0.5 / 255 + 1e-6, err_msg=name)
    for name, found in {"array": values, "tensor": tensor, "list": pictures}.items():
        np.testing.assert_allclose(frames_of(found, clip=False), values[:1], atol=0.5 / 255 + 1e-6, err_msg=name)
    with pytest.raises(KinoformError, match="colour pictures"):
        frames_of(values[..., :1], clip=False)

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import StableDiffusionPipeline

from shared.errors import InputError
from shared.images.edit import picture_size
from shared.images.generate import generate_image, generate_images
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from shared.rng import normal
from tests.tiny import build_image_folder

ONE_STEP = 1  # of 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_image_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder):
    return load_image_model(folder)


def recipe(**changes):
    return ImageRecipe.parse({"prompt": "a red cube", "steps": 4, **changes})


def last(states):
    *_, final = states
    return final


def test_the_stock_pipeline_makes_the_same_picture(folder, model):
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    made = recipe(negative="a green ball", guidance_scale=6.0, guidance_rescale=0.4, width=72, height=48, seed=11)
    wanted = pipeline(
        made.prompt,
        negative_prompt=made.negative,
        latents=normal((1, 4, 12, 18), 0) * 0 + normal((4, 12, 18), made.seed),
        width=72,
        height=48,
        num_inference_steps=4,
        guidance_scale=6.0,
        guidance_rescale=0.4,
        output_type="np",
    ).images
    got = last(generate_image(model, made))
    assert np.abs((got.pixels.movedim(1, -1).numpy() + 1) / 2 - wanted).max() < 1e-4
    assert got.images.shape == (1, 48, 72, 3)
    assert wanted.std() > 0.1
    assert np.abs(got.images / 255 - wanted).max() < 0.51 / 255


def test_a_batch_holds_the_same_pictures_as_singles(model):
    prompts = ["a red cube", "a blue ball", "a red cube", "a yellow cone, side view"]
    seeds = [7, 8, 9, 7]
    together = last(generate_images(model, prompts, seeds, recipe(prompt="unused"))).images
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        alone = last(generate_image(model, recipe(prompt=prompt, seed=seed))).images[0]
        assert np.abs(together[i].astype(int) - alone).max() <= ONE_STEP
    assert np.abs(together[0].astype(int) - together[2]).max() > 20  # the seed matters
    assert np.abs(together[0].astype(int) - together[3]).max() > 5  # the prompt matters


def test_same_seed_same_bytes(model):
    one, two = (last(generate_image(model, recipe(seed=3))) for _ in range(2))
    assert torch.equal(one.pixels, two.pixels)


def test_pixels_come_with_the_last_state(model):
    states = list(generate_image(model, recipe()))
    assert [(state.step, state.total) for state in states] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [state.pixels is None for state in states] == [True, True, True, False]
    assert states[0].images is None
    assert states[-1].pixels.shape == (1, 3, 64, 64)  # the model's own size
    assert states[-1].pixels.abs().max() <= 1


def test_half_precision_is_close(folder, model):
    half = load_image_model(folder, dtype=torch.bfloat16)
    a, b = (last(generate_image(which, recipe())).pixels for which in (model, half))
    assert b.dtype == torch.float32
    assert (a - b).abs().mean() < 0.05


def test_sizes_that_do_not_fit_name_the_nearest(model):
    with pytest.raises(InputError, match=r"width: expected a multiple of 4 pixels, such as 64 or 68, got 66"):
        last(generate_image(model, recipe(width=66)))
    with pytest.raises(InputError, match="height"):
        last(generate_image(model, recipe(height=9)))
    with pytest.raises(InputError, match="seeds"):
        last(generate_images(model, ["a cube"], [1, 2], recipe()))


def test_a_model_of_oblong_pictures_makes_them(folder):
    model = load_image_model(folder)
    model.unet.register_to_config(sample_size=(8, 12))
    assert (model.own_size, model.default_size) == ((48, 32), 32)
    assert last(generate_image(model, recipe(steps=1))).images.shape == (1, 32, 48, 3)
    assert last(generate_image(model, recipe(steps=1, width=40))).images.shape == (1, 32, 40, 3)


def test_no_pixels_are_not_the_models_own_size(model):
    with pytest.raises(InputError, match=r"width.*such as 4, got 0"):
        picture_size(model, 0, None)


def test_a_model_that_is_offloaded_by_its_layers_makes_the_same_picture(folder, model):
    """Its weights are on "meta" between calls; inputs go to where they are computed with."""
    wanted = last(generate_image(model, recipe())).images
    offloaded = load_image_model(folder)
    for network in (offloaded.text.text_encoder, offloaded.unet, offloaded.codec.vae):
        cpu_offload(network, execution_device=torch.device("cpu"))
        assert {weight.device.type for weight in network.parameters()} == {"meta"}
    assert np.array_equal(last(generate_image(offloaded, recipe())).images, wanted)

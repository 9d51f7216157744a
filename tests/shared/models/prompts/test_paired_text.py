import json
from shutil import copytree

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)

from dreamfusion.distill import distill
from dreamfusion.recipe import AssetRecipe
from shared.artifacts.media import write_image
from shared.artifacts.pixels import from_uint8
from shared.diffusion.schedulers import named_scheduler
from shared.errors import ModelError
from shared.images.generate import generate_image
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from shared.rng import generator
from tests.tiny import build_xl_folder

SCHEDULERS = ["ddim", "euler-discrete", "dpm-solver-multistep", "heun-discrete"]
SIDE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_xl_folder(tmp_path_factory.mktemp("xl") / "model")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures")
    levels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    mask = np.zeros_like(levels)
    mask[:, 16:40] = 255
    write_image(place / "picture.png", levels)
    write_image(place / "mask.png", mask)
    return place, levels, mask


def last(states):
    *_, state = states
    return state


def recipe_of(**values):
    return ImageRecipe.parse({"prompt": "a red cube", "steps": 4, "seed": 7, "guidance_rescale": 0.0, **values})


def stock(pipeline_class, folder, model, recipe, **more):
    pipeline = pipeline_class.from_pretrained(folder, torch_dtype=torch.float32, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = named_scheduler(recipe.scheduler, model.make_scheduler())
    negative = recipe.negative or None
    return pipeline(
        recipe.prompt, negative_prompt=negative, num_inference_steps=recipe.steps, output_type="latent",
        guidance_scale=recipe.guidance_scale, generator=generator(recipe.seed), **more,
    ).images  # fmt: skip


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_pictures_are_those_of_diffusers_own_pipeline(folder, scheduler):
    model = load_image_model(folder)
    recipe = recipe_of(scheduler=scheduler, width=48, height=64)
    expected = stock(StableDiffusionXLPipeline, folder, model, recipe, width=48, height=64)
    torch.testing.assert_close(last(generate_image(model, recipe)).latents, expected, rtol=1e-4, atol=1e-4)


def test_a_negative_prompt_is_read_and_none_is_zeros(folder):
    model = load_image_model(folder)
    recipe = recipe_of(negative="a blue ball")
    expected = stock(StableDiffusionXLPipeline, folder, model, recipe)
    torch.testing.assert_close(last(generate_image(model, recipe)).latents, expected, rtol=1e-4, atol=1e-4)
    told = model.conditions(["", "a red cube"])
    assert not told.text[0].any()
    assert not told.pooled[0].any()
    assert told.text[1].any()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_picture_from_another_is_diffusers_own(folder, files, scheduler):
    model = load_image_model(folder)
    place, levels, mask = files
    latents = model.codec.encode(from_uint8(levels)[None])
    like = recipe_of(image=str(place / "picture.png"), strength=0.75, scheduler=scheduler)
    expected = stock(StableDiffusionXLImg2ImgPipeline, folder, model, like, image=latents, strength=0.75)
    torch.testing.assert_close(last(generate_image(model, like)).latents, expected, rtol=1e-4, atol=1e-4)
    painted = recipe_of(image=str(place / "picture.png"), mask=str(place / "mask.png"), scheduler=scheduler)
    white = torch.from_numpy(mask[None, None, ..., 0] / 255).float()
    expected = stock(
        StableDiffusionXLInpaintPipeline, folder, model, painted, image=latents, strength=1.0, mask_image=white,
        masked_image_latents=latents,
    )  # fmt: skip
    torch.testing.assert_close(last(generate_image(model, painted)).latents, expected, rtol=1e-4, atol=1e-4)


def test_assets_are_distilled_from_it(folder):
    recipe = AssetRecipe.parse(
        {"prompt": "a red cube", "steps": 2, "teacher": "image", "views": 2, "render_size": 16,
         "coarse_render_size": 16, "samples": 12, "field_resolution": 12}
    )  # fmt: skip
    states = list(distill(load_image_model(folder), recipe))
    assert all(np.isfinite(state.gradient_rms) and state.gradient_rms > 0 for state in states)


def test_a_second_encoder_that_the_unet_does_not_hear_is_refused(folder, tmp_path):
    broken = copytree(folder, tmp_path / "model")
    index = json.loads((broken / "model_index.json").read_text())
    index["text_encoder_2"] = [None, None]
    (broken / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="text width of the unet: expected 32, got 64"):
        load_image_model(broken)

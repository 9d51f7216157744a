"""UNets that see depth or a small picture, beside the pipelines that diffusers has for them."""

from functools import cache

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionDepth2ImgPipeline, StableDiffusionUpscalePipeline
from PIL import Image

from shared.artifacts.media import read_image, write_image
from shared.diffusion.schedulers import named_scheduler
from shared.errors import InputError, ModelError
from shared.images.generate import generate_image, generate_images
from shared.images.recipe import ImageRecipe
from shared.models.beside import depth_latents
from shared.models.image_model import load_image_model
from shared.rng import generator, normal
from tests.tiny import build_image_folder
from tests.tiny_given import MOST_NOISE, build_depth_folder, build_upscaler_folder

SCHEDULERS = ["ddim", "euler-discrete", "dpm-solver-multistep", "heun-discrete"]
SIDE = 64
SMALL = (20, 24)  # height and width: the multiples of 4 that diffusers wants
ODD = (17, 23)
PROMPT, NEGATIVE = "a red cube", "a ball"
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return load_image_model(build_depth_folder(tmp_path_factory.mktemp("deep")), seeing=True)


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory):
    return load_image_model(build_upscaler_folder(tmp_path_factory.mktemp("upscaler")), seeing=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures")
    grid = np.mgrid[0:SIDE, 0:SIDE] * 4
    picture = np.stack([grid[0], grid[1], 255 - grid[0]], axis=-1).astype(np.uint8)
    depth = np.broadcast_to((np.hypot(*(grid / 4 - 24)) * 5).clip(0, 255)[..., None], picture.shape)
    pictures = {"picture": picture, "depth": depth.astype(np.uint8), "small": picture[: SMALL[0], : SMALL[1]]}
    pictures["odd"] = picture[: ODD[0], : ODD[1]]
    pictures |= {"wide": np.repeat(picture, 2, axis=1), "grey": np.full_like(picture, 90)}
    for name, pixels in pictures.items():
        write_image(place / f"{name}.png", np.ascontiguousarray(pixels))
    return {name: str(place / f"{name}.png") for name in pictures}


def recipe_of(**values):
    return ImageRecipe.parse(
        {"prompt": PROMPT, "negative": NEGATIVE, "steps": 4, "seed": 5, "guidance_rescale": 0.0, **values}
    )


def last(states):
    *_, state = states
    return state


@cache
def pipeline_of(pipeline_class, folder):
    pipeline = pipeline_class.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock(pipeline_class, model, recipe, **values):
    """What diffusers' own pipeline makes, with the same weights, steps and guidance."""
    pipeline = pipeline_of(pipeline_class, model.path)
    pipeline.scheduler = named_scheduler(recipe.scheduler, model.make_scheduler())
    return pipeline(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=recipe.steps, guidance_scale=recipe.guidance_scale,
        output_type="latent", **values,
    ).images  # fmt: skip


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_with_the_depth_that_the_model_finds_it_is_the_picture_of_diffusers(deep, files, scheduler):
    recipe = recipe_of(image=files["picture"], strength=0.5, scheduler=scheduler)
    expected = stock(
        StableDiffusionDepth2ImgPipeline, deep, recipe, image=Image.open(files["picture"]), strength=0.5,
        generator=generator(recipe.seed),
    )  # fmt: skip
    torch.testing.assert_close(last(generate_image(deep, recipe)).latents, expected, **CLOSE)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_with_a_depth_of_ones_own_it_is_the_picture_of_diffusers(deep, files, scheduler):
    recipe = recipe_of(image=files["picture"], depth=files["depth"], strength=1.0, scheduler=scheduler)
    depth = torch.from_numpy(np.asarray(Image.open(files["depth"]).convert("L"))[None] / 1.0).float()
    expected = stock(
        StableDiffusionDepth2ImgPipeline, deep, recipe, image=Image.open(files["picture"]), strength=1.0,
        generator=generator(recipe.seed), depth_map=depth,
    )  # fmt: skip
    made = last(generate_image(deep, recipe)).latents
    torch.testing.assert_close(made, expected, **CLOSE)
    found = last(generate_image(deep, recipe.model_copy(update={"depth": None}))).latents
    assert float((made - found).abs().max()) > 1e-2


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_larger_picture_is_that_of_diffusers(upscaler, files, scheduler):
    recipe = recipe_of(image=files["small"], noise_level=77, scheduler=scheduler)
    height, width = SMALL
    expected = stock(
        StableDiffusionUpscalePipeline, upscaler, recipe, noise_level=77, generator=generator(recipe.seed, 1),
        image=torch.from_numpy(read_image(files["small"])).permute(2, 0, 1)[None] / 255,
        latents=normal((1, 4, height, width), recipe.seed),
    )  # fmt: skip
    made = last(generate_image(upscaler, recipe))
    torch.testing.assert_close(made.latents, expected, **CLOSE)
    with torch.no_grad():
        pixels = AutoencoderKL.from_pretrained(upscaler.path / "vae").decode(expected / 0.08333).sample.clamp(-1, 1)
    assert pixels.shape == (1, 3, 4 * height, 4 * width)
    torch.testing.assert_close(made.pixels, pixels, **CLOSE)


def test_the_usual_noise_is_that_of_diffusers_and_more_of_it_makes_another_picture(upscaler, files):
    usual, named, more = (
        last(generate_image(upscaler, recipe_of(image=files["small"], **values))).latents
        for values in ({"steps": 2}, {"steps": 2, "noise_level": 20}, {"steps": 2, "noise_level": MOST_NOISE})
    )
    assert torch.equal(usual, named)
    assert float((usual - more).abs().max()) > 1e-2


def test_width_and_height_are_those_of_the_larger_picture(upscaler, files):
    made = last(generate_image(upscaler, recipe_of(image=files["picture"], width=64, height=32)))
    assert made.images.shape == (1, 32, 64, 3)
    odd = last(generate_image(upscaler, recipe_of(image=files["odd"])))
    assert odd.images.shape == (1, 4 * ODD[0], 4 * ODD[1], 3)
    with pytest.raises(InputError, match="width: expected a multiple of 4 pixels, such as 64 or 68, got 66"):
        last(generate_image(upscaler, recipe_of(image=files["picture"], width=66)))


@pytest.mark.parametrize("name", ["deep", "upscaler"])
def test_a_picture_does_not_depend_on_its_batch(request, files, name):
    model = request.getfixturevalue(name)
    recipe = recipe_of(image=files["small"], width=48, height=32)
    batch = last(generate_images(model, [PROMPT, "a ball"], [5, 9], recipe)).images
    for index, (prompt, seed) in enumerate([(PROMPT, 5), ("a ball", 9)]):
        alone = last(generate_image(model, recipe.model_copy(update={"prompt": prompt, "seed": seed}))).images[0]
        assert np.array_equal(alone, batch[index])


def test_depth_alone_begins_with_noise(deep, files):
    recipe = recipe_of(depth=files["depth"])
    made = last(generate_image(deep, recipe)).latents
    other = last(generate_image(deep, recipe.model_copy(update={"depth": files["picture"]}))).latents
    begun = last(generate_image(deep, recipe.model_copy(update={"image": files["picture"], "strength": 0.5}))).latents
    assert min(float((made - each).abs().max()) for each in (other, begun)) > 1e-2


def test_depth_goes_with_a_mask_and_with_borders(deep, files, tmp_path):
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask[16:48, 24:64] = 255
    write_image(tmp_path / "mask.png", mask)
    picture = read_image(files["picture"])
    made = last(generate_image(deep, recipe_of(image=files["picture"], mask=str(tmp_path / "mask.png")))).images[0]
    assert np.array_equal(made[mask == 0], picture[mask == 0])
    wider = last(generate_image(deep, recipe_of(image=files["picture"], depth=files["depth"], extend="left=16")))
    assert np.array_equal(wider.images[0][:, 16:], picture)


def test_depth_is_seen_from_the_farthest_to_the_nearest():
    depth = (
        torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        * torch.tensor([3.0, 0.1])[:, None, None, None]
    )
    seen = depth_latents(depth, 8, 8)
    assert torch.equal(seen.amin(dim=(1, 2, 3)), torch.full((2,), -1.0))
    assert torch.equal(seen.amax(dim=(1, 2, 3)), torch.full((2,), 1.0))
    assert torch.equal(seen.flatten(1).argsort(), depth.flatten(1).argsort())
    with pytest.raises(InputError, match="expected something nearer than the rest"):
        depth_latents(torch.full((1, 1, 8, 8), 0.5), 4, 4)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("deep", {}, "--image or --depth, or both, got neither"),
        ("deep", {"depth": "wide"}, None),
        ("deep", {"image": "picture", "depth": "wide"}, "expected the picture's size, 64x64 pixels, got 128x64 pixels"),
        ("deep", {"depth": "grey"}, "white where it is near, black where far, got one grey"),
        ("deep", {"image": "picture", "noise_level": 3}, "noise-level with model .*: expected one whose UNet sees a"),
        ("upscaler", {}, "which makes pictures larger: expected --image, got none"),
        ("upscaler", {"image": "small", "strength": 0.5}, "strength with model .* --noise-level"),
        ("upscaler", {"image": "small", "extend": "left=8"}, "extend with model .* begins with noise alone"),
        ("upscaler", {"image": "small", "depth": "small"}, "depth with model .*: expected one whose UNet sees depth"),
        ("upscaler", {"image": "small", "noise_level": MOST_NOISE + 1}, "noise-level: expected at most 350"),
        ("plain", {"depth": "depth"}, "sees depth, got one whose UNet sees latents alone"),
    ],
)  # fmt: skip
def test_recipes_that_do_not_go_with_the_model_are_refused(request, files, tmp_path, name, values, words):
    model = load_image_model(build_image_folder(tmp_path)) if name == "plain" else request.getfixturevalue(name)
    recipe = recipe_of(
        **{key: files.get(value, value) if isinstance(value, str) else value for key, value in values.items()}
    )
    if words is None:
        assert last(generate_image(model, recipe)).images.shape == (1, SIDE, SIDE, 3)
        return
    with pytest.raises(InputError, match=words):
        last(generate_image(model, recipe))


def test_they_make_pictures_alone(deep, upscaler):
    for model, what in ((deep, "depth"), (upscaler, "a small picture")):
        with pytest.raises(ModelError, match=f"sees latents alone, got one that sees {what} beside them"):
            load_image_model(model.path)

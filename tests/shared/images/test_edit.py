import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from PIL import Image

from shared.artifacts.media import write_image
from shared.artifacts.pixels import from_uint8, to_uint8
from shared.diffusion.schedulers import named_scheduler
from shared.errors import InputError
from shared.images.edit import canvas_of
from shared.images.generate import generate_image
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from shared.rng import generator
from tests.tiny import build_image_folder

SCHEDULERS = ["ddim", "euler-discrete", "dpm-solver-multistep", "heun-discrete"]
SIDE = 64
PROMPT = "a red cube"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_image_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures")
    grid = np.mgrid[0:SIDE, 0:SIDE] * 4
    write_image(place / "picture.png", np.stack([grid[0], grid[1], 255 - grid[0]], axis=-1).astype(np.uint8))
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask[16:48, 24:64] = 255
    write_image(place / "mask.png", mask)
    return {"picture": str(place / "picture.png"), "mask": str(place / "mask.png")}


def recipe_of(**values):
    return ImageRecipe.parse({"prompt": PROMPT, "steps": 6, "seed": 5, "guidance_rescale": 0.0, **values})


def last(states):
    *_, state = states
    return state


def stock(pipeline_class, folder, scheduler, recipe, latents, **more):
    """diffusers' own latents, with the same weights, seed and steps."""
    pipeline = pipeline_class.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = scheduler
    return pipeline(
        PROMPT, image=latents, strength=recipe.share_of_steps, num_inference_steps=recipe.steps, eta=0.0,
        guidance_scale=recipe.guidance_scale, generator=generator(recipe.seed), output_type="latent", **more,
    ).images  # fmt: skip


def scheduler_of(model, name):
    return named_scheduler(name, model.make_scheduler())


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_another_picture_like_it_is_the_one_that_diffusers_makes(folder, files, scheduler, strength):
    model = load_image_model(folder)
    recipe = recipe_of(image=files["picture"], strength=strength, scheduler=scheduler)
    latents = model.codec.encode(from_uint8(np.asarray(Image.open(files["picture"])))[None])
    expected = stock(StableDiffusionImg2ImgPipeline, folder, scheduler_of(model, scheduler), recipe, latents)
    torch.testing.assert_close(last(generate_image(model, recipe)).latents, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_what_is_painted_in_a_part_is_what_diffusers_paints(folder, files, scheduler, strength):
    model = load_image_model(folder)
    recipe = recipe_of(image=files["picture"], mask=files["mask"], strength=strength, scheduler=scheduler)
    picture, mask = (np.asarray(Image.open(files[name])) for name in ("picture", "mask"))
    latents = model.codec.encode(from_uint8(picture)[None])
    expected = stock(
        StableDiffusionInpaintPipeline, folder, scheduler_of(model, scheduler), recipe, latents,
        mask_image=torch.from_numpy(mask[None, None, ..., 0] / 255).float(), masked_image_latents=latents,
    )  # fmt: skip
    torch.testing.assert_close(last(generate_image(model, recipe)).latents, expected, rtol=1e-4, atol=1e-4)


def test_what_is_not_painted_stays_to_the_last_bit(folder, files):
    model = load_image_model(folder)
    made = last(generate_image(model, recipe_of(image=files["picture"], mask=files["mask"]))).images[0]
    picture, mask = (np.asarray(Image.open(files[name])) for name in ("picture", "mask"))
    assert np.array_equal(made[mask == 0], picture[mask == 0])
    assert np.abs(made[mask > 0].astype(int) - picture[mask > 0]).mean() > 5


def test_a_picture_grows_on_its_sides_and_stays_in_the_middle(folder, files):
    model = load_image_model(folder)
    made = last(generate_image(model, recipe_of(image=files["picture"], extend="left=16, bottom=8"))).images[0]
    assert made.shape == (SIDE + 8, SIDE + 16, 3)
    assert np.array_equal(made[:SIDE, 16:], np.asarray(Image.open(files["picture"])))


def test_grey_in_a_mask_shows_both(files, tmp_path):
    grey = np.full((SIDE, SIDE, 3), 64, np.uint8)
    grey[:8] = 0
    write_image(tmp_path / "grey.png", grey)
    canvas = canvas_of(recipe_of(image=files["picture"], mask=str(tmp_path / "grey.png")), SIDE, SIDE, 4)
    share, white = 64 / 255, torch.ones_like(canvas.pixels)
    torch.testing.assert_close(canvas.kept(white)[..., 8:, :], (canvas.pixels * (1 - share) + share)[..., 8:, :])
    assert torch.equal(canvas.kept(white)[..., :8, :], canvas.pixels[..., :8, :])


def test_a_larger_picture_gives_its_middle(files, tmp_path):
    wide = np.zeros((SIDE, 3 * SIDE, 3), np.uint8)
    wide[:, SIDE : 2 * SIDE] = 200
    write_image(tmp_path / "wide.png", wide)
    canvas = canvas_of(recipe_of(image=str(tmp_path / "wide.png")), SIDE, SIDE, 4)
    assert to_uint8(canvas.pixels).min() == 200


def test_a_weak_change_stays_nearer_to_the_picture(folder, files):
    model = load_image_model(folder)
    latents = model.codec.encode(from_uint8(np.asarray(Image.open(files["picture"])))[None])
    far = []
    for strength in (0.2, 0.5, 0.9):
        state = last(generate_image(model, recipe_of(image=files["picture"], strength=strength, steps=10)))
        far.append(float((state.latents - latents).square().mean()))
    assert far == sorted(far)
    assert far[0] < 0.5 * far[2]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"strength": 0.5}, "image beside strength"),
        ({"mask": "mask.png"}, "image beside mask"),
        ({"image": "a.png", "mask": "b.png", "extend": "left=8"}, "mask or extend"),
        ({"image": "a.png", "extend": "left"}, "left=64"),
        ({"image": "a.png", "extend": "left=0"}, "left=64"),
        ({"image": "a.png", "extend": "left=8,left=8"}, "left=64"),
        ({"image": "a.png", "strength": 0.0}, "strength: expected a number above 0"),
    ],
)
def test_recipes_that_say_no_sense_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        recipe_of(**values)


def test_masks_that_say_nothing_are_refused(files, tmp_path):
    for level, words in ((0, "all of it black"), (255, "all of it white"), (90, "one grey")):
        write_image(tmp_path / "mask.png", np.full((SIDE, SIDE, 3), level, np.uint8))
        with pytest.raises(InputError, match=words):
            canvas_of(recipe_of(image=files["picture"], mask=str(tmp_path / "mask.png")), SIDE, SIDE, 4)
    write_image(tmp_path / "mask.png", np.zeros((SIDE, 2 * SIDE, 3), np.uint8))
    with pytest.raises(InputError, match="expected the picture's size, 64x64 pixels, got 128x64 pixels"):
        canvas_of(recipe_of(image=files["picture"], mask=str(tmp_path / "mask.png")), SIDE, SIDE, 4)
    with pytest.raises(InputError, match="extend left: expected a multiple of 4 pixels, such as 4, got 3"):
        canvas_of(recipe_of(image=files["picture"], extend="left=3"), SIDE, SIDE, 4)


def test_too_few_steps_for_the_strength_are_refused_with_what_would_do(folder, files):
    model = load_image_model(folder)
    with pytest.raises(InputError, match=r"strength: expected 0.167 or more with 6 steps, got 0.1"):
        last(generate_image(model, recipe_of(image=files["picture"], strength=0.1)))


def test_a_scheduler_that_does_not_exist_is_answered_with_the_nearest(folder):
    model = load_image_model(folder)
    with pytest.raises(InputError, match="Did you mean euler-ancestral-discrete"):
        last(generate_image(model, recipe_of(scheduler="euler-ancestral")))

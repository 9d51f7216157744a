"""LoRAs in a pipeline by diffusers' own loaders, against the core, which adds them to the weights."""

import copy

import numpy as np
import pytest

from shared.errors import ModelError
from shared.images.generate import generate_image
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from shared.models.pipelines.adapters import with_adapters
from shared.models.pipelines.load import load_pipeline
from shared.models.pipelines.run import run_pipeline
from tests.shared.models.adapters.files import ATTENTION, peft_layers, save
from tests.tiny import build_xl_folder

NAME = "StableDiffusionXLPipeline"
RECIPE = ImageRecipe(prompt="a red cube", steps=3, guidance_scale=3.0, guidance_rescale=0.0, width=64, height=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_xl_folder(tmp_path_factory.mktemp("xl") / "model")


@pytest.fixture(scope="module")
def lora(folder, tmp_path_factory):
    """Of the UNet and of the second text encoder, in diffusers' names."""
    model = load_image_model(folder)
    unet = peft_layers(copy.deepcopy(model.unet), ATTENTION, 0)
    second = peft_layers(copy.deepcopy(model.encoders[1]), ["q_proj", "v_proj"], 1)
    named = {f"unet.{name}": tensor for name, tensor in unet.items()}
    named |= {f"text_encoder_2.{name}": tensor for name, tensor in second.items()}
    return save(tmp_path_factory.mktemp("lora") / "xl.safetensors", named)


def by_core(folder, *lora, recipe=RECIPE):
    *_, last = generate_image(load_image_model(folder, lora=lora), recipe)
    return (last.pixels[0].movedim(0, -1).numpy() + 1) / 2


def by_pipeline(folder, *lora, recipe=RECIPE):
    model = with_adapters(load_pipeline(folder, pipeline_class=NAME), lora)
    *_, last = run_pipeline(model, recipe)
    return last.values[0]


@pytest.mark.parametrize("weight", ["", ":0.5", ":-1"])
def test_the_core_and_the_class_make_the_same_of_a_lora(folder, lora, weight):
    changed = by_pipeline(folder, f"{lora}{weight}")
    assert np.abs(changed - by_pipeline(folder)).max() > 0.01
    np.testing.assert_allclose(changed, by_core(folder, f"{lora}{weight}"), atol=1e-3)


def test_two_at_half_weight_are_one_at_its_own(folder, lora):
    np.testing.assert_allclose(by_pipeline(folder, f"{lora}:0.5", f"{lora}:0.5"), by_pipeline(folder, lora), atol=1e-4)


def test_another_scheduler_is_for_one_run(folder):
    model = load_pipeline(folder, pipeline_class=NAME)
    own = model.pipeline.scheduler
    recipe = RECIPE.model_copy(update={"scheduler": "euler-discrete"})
    *_, last = run_pipeline(model, recipe)
    np.testing.assert_allclose(last.values[0], by_core(folder, recipe=recipe), atol=1e-3)
    assert model.pipeline.scheduler is own


def test_what_does_not_fit_is_refused(folder, folder_of, lora, tmp_path):
    other = save(tmp_path / "other.safetensors", {})
    with pytest.raises(ModelError, match=r"LoRA .*other\.safetensors"):
        by_pipeline(folder, other)
    unclip = load_pipeline(folder_of("UnCLIPPipeline"))
    with pytest.raises(ModelError, match="expected a model that takes LoRAs, got a UnCLIPPipeline"):
        with_adapters(unclip, [lora])
    with pytest.raises(ModelError, match="expected a model that takes words, got a UnCLIPPipeline"):
        with_adapters(unclip, embeddings=[lora])

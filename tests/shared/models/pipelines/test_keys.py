"""Keys of recipes against signatures: diffusers' own, and a few that are written here."""

import inspect

import pytest
from diffusers import (
    FluxPipeline,
    LTXPipeline,
    QwenImagePipeline,
    StableVideoDiffusionPipeline,
    WanImageToVideoPipeline,
)

from shared.errors import InputError
from shared.images.recipe import ImageRecipe
from shared.models.pipelines.keys import call_values, check_keys, completed, names_of, told, unused_keys
from video.recipe import ClipRecipe


def takes(call):
    return {name: p for name, p in inspect.signature(call).parameters.items() if name != "self"}


def image(**values):
    return ImageRecipe.parse({"prompt": "a cube", **values})


def clip(**values):
    return ClipRecipe.parse({"prompt": "a cube", **values})


def test_names_are_the_class_s():
    assert names_of(takes(StableVideoDiffusionPipeline.__call__)) == {
        "image": "image", "frames": "num_frames", "fps": "fps", "width": "width", "height": "height",
        "steps": "num_inference_steps", "guidance_scale": "max_guidance_scale", "decode_frames": "decode_chunk_size",
    }  # fmt: skip
    assert names_of(takes(QwenImagePipeline.__call__))["guidance_scale"] == "true_cfg_scale"


def test_what_is_not_given_is_left_to_the_class():
    def call(prompt, negative_prompt=None, height=64, num_frames=8, num_inference_steps=50): ...

    assert call_values(takes(call), clip(steps=7)) == {"prompt": "a cube", "num_inference_steps": 7}
    given = clip(negative="grey", height=72, frames=9)
    assert call_values(takes(call), given) == {
        "prompt": "a cube", "negative_prompt": "grey", "height": 72, "num_frames": 9, "num_inference_steps": 14,
    }  # fmt: skip


def test_an_empty_negative_prompt_is_given_where_there_is_no_guidance_without():
    assert call_values(takes(QwenImagePipeline.__call__), image(steps=2, guidance_scale=3)) == {
        "prompt": "a cube", "negative_prompt": "", "num_inference_steps": 2, "true_cfg_scale": 3.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("guidance_start", 0.5),
        ("guidance_rescale", 0.2),
        ("compile", True),
        ("channels_last", True),
        ("decode_frames", 2),
        ("negative", "grey"),  # without a true guidance scale above 1 the class passes it over
    ],
)
def test_a_key_that_the_class_does_not_take_is_an_error_that_names_it(key, value):
    with pytest.raises(InputError, match=f"{key.replace('_', '-')} with a FluxPipeline: expected one of .*steps"):
        check_keys("FluxPipeline", takes(FluxPipeline.__call__), image(**{key: value}))
    check_keys("FluxPipeline", takes(FluxPipeline.__call__), image(steps=3, width=64, precision="bf16"))


def test_keys_at_their_defaults_that_it_does_not_take_are_said():
    unused = ["guidance", "guidance_rescale", "guidance_start", "guidance_stop"]
    assert unused_keys(takes(FluxPipeline.__call__), image()) == ["negative", *unused]
    video = unused_keys(takes(StableVideoDiffusionPipeline.__call__), clip())
    assert "prompt" in video
    assert "fps" not in video


def test_what_the_class_needs_is_asked_for():
    wanted = takes(WanImageToVideoPipeline.__call__)
    with pytest.raises(InputError, match="a WanImageToVideoPipeline: expected --image, got nothing"):
        check_keys("WanImageToVideoPipeline", wanted, clip())
    check_keys("WanImageToVideoPipeline", wanted, clip(image="a.png", last="b.png"))

    def labelled(class_labels, num_inference_steps=50): ...

    with pytest.raises(InputError, match="its class_labels, which no key of ours gives"):
        check_keys("DiTPipeline", takes(labelled), image())


@pytest.mark.parametrize(
    ("cls", "recipe", "own"),
    [
        (FluxPipeline, image(), {"steps": 28, "guidance_scale": 3.5}),
        (FluxPipeline, image(steps=25, guidance_scale=5), {}),  # set, be it to the recipe's default
        (QwenImagePipeline, image(steps=3), {"guidance_scale": 4.0}),
        (StableVideoDiffusionPipeline, clip(guidance_scale=2), {"steps": 25, "fps": 7}),
        (LTXPipeline, clip(), {"steps": 50, "guidance_scale": 3.0, "guidance_rescale": 0.0, "fps": 25}),
    ],
)
def test_what_is_not_set_is_the_class_s_own(cls, recipe, own):
    filled = completed(takes(cls.__call__), recipe)
    assert filled == recipe.model_copy(update=own)
    assert filled.model_fields_set == recipe.model_fields_set | own.keys()
    again = type(recipe).parse(filled.resolved())  # as from a record
    assert completed(takes(cls.__call__), again) == filled


def test_a_default_that_is_none_leaves_the_recipe_s():
    def call(prompt, guidance_scale=None, num_inference_steps=None): ...

    assert completed(takes(call), image()) == image()


def test_a_prompt_without_a_part_is_told():
    said = told("SVD", takes(StableVideoDiffusionPipeline.__call__))
    assert said == ["a SVD takes no prompt: it has no part in what comes out"]
    assert told("FluxPipeline", takes(FluxPipeline.__call__)) == []

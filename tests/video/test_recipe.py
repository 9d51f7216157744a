"""Recipes of clips and of their training: what is accepted, what is refused and how, and that no torch comes along."""

import subprocess
import sys

import pytest

from shared.errors import InputError
from shared.recipe import load_preset, preset_names
from video.recipe import ClipRecipe, VideoLoraTrainRecipe, VideoTrainRecipe


def test_a_prompt_is_enough():
    recipe = ClipRecipe.parse({"prompt": "a red ball bouncing"})
    assert (recipe.model, recipe.frame_count, recipe.fps, recipe.seed) == ("world", 16, 8, 0)
    assert recipe.width is None
    assert recipe.height is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompt", ""),
        ("prompt", "x" * 1_000_000),
        ("frames", 0),
        ("frames", -1),
        ("frames", 10**9),
        ("frames", 2.5),
        ("fps", 0),
        ("steps", 0),
        ("width", 0),
        ("guidance_scale", float("nan")),
        ("guidance_rescale", 1.5),
        ("temporal_guidance_scale", 0.5),
        ("seed", -1),
    ],
)
def test_wrong_values_are_one_line_that_names_the_key(key, value):
    with pytest.raises(InputError) as raised:
        ClipRecipe.parse({"prompt": "a red cube", key: value})
    assert str(raised.value).startswith(key)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(InputError, match="guidance_scale"):
        ClipRecipe.parse({"prompt": "a red cube", "guidence_scale": 3})


@pytest.mark.parametrize("name", preset_names("clip"))
def test_clip_presets_are_valid(name):
    preset = load_preset("clip", name)
    assert ClipRecipe.parse({"prompt": "a red cube", **preset}).resolved().items() >= preset.items()


def test_training_presets_are_valid():
    names = [name for name in preset_names("train") if name.startswith("video")]
    assert names == ["video", "video-finetune", "video-joint", "video-lora", "video-own"]
    for name in names:
        preset = load_preset("train", name)
        stage = VideoLoraTrainRecipe if name == "video-lora" else VideoTrainRecipe
        assert stage.parse(preset).resolved().items() >= preset.items()


def test_recipes_come_without_torch():
    code = "import sys, video.recipe; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

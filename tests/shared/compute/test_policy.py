"""The policy as recipes take it over: fields, defaults, old run records."""

import subprocess
import sys

import pytest

from dreamfusion.recipe import AssetRecipe
from shared.compute.policy import MemoryPolicy
from shared.errors import InputError
from shared.images.recipe import ImageRecipe
from video.recipe import ClipRecipe, VideoTrainRecipe

FIELDS = {"precision", "quantization", "offload", "channels_last", "compile", "decode", "decode_frames"}
FIELDS |= {"checkpointing"}


def test_recipes_have_the_fields_that_mean_something_for_them():
    assert set(MemoryPolicy.model_fields) == FIELDS
    for recipe, missing in (
        (ClipRecipe, {"checkpointing"}),
        (ImageRecipe, {"checkpointing"}),
        (AssetRecipe, {"decode", "decode_frames"}),
    ):
        assert FIELDS - set(recipe.model_fields) == missing
    assert VideoTrainRecipe().checkpointing is False


def test_a_recipe_gives_its_policy_with_defaults_for_the_rest():
    clip = ClipRecipe(prompt="a cube", precision="bf16", decode="tiled", decode_frames=3, channels_last=True)
    assert clip.memory == MemoryPolicy(precision="bf16", decode="tiled", decode_frames=3, channels_last=True)
    asset = AssetRecipe(prompt="a cube", checkpointing=True, offload="group")
    assert asset.memory == MemoryPolicy(checkpointing=True, offload="group")
    assert ImageRecipe(prompt="a cube").memory == MemoryPolicy()


@pytest.mark.parametrize("recipe", [ClipRecipe, ImageRecipe, AssetRecipe])
def test_a_record_from_before_there_were_policies_is_a_recipe_still(recipe):
    now = recipe(prompt="a cube")
    old = {key: value for key, value in now.resolved().items() if key not in FIELDS | {"window"}}
    assert recipe.parse(old) == now


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("precision", "fp8", "expected auto, fast, fp32, bf16 or fp16, got fp8"),
        ("offload", "disk", "expected none, model or group, got disk"),
        ("decode", "halves", "expected auto, whole, sliced or tiled, got halves"),
        ("decode_frames", 0, "expected a whole number from 1 to 4096, got 0"),
    ],
)
def test_wrong_values_are_named(key, value, words):
    with pytest.raises(InputError) as caught:
        ClipRecipe.parse({"prompt": "a cube", key: value})
    assert str(caught.value) == f"{key}: {words}"


def test_no_torch_is_imported():
    code = "import sys, shared.compute.policy; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("kind", "package"), [("int8", "torchao"), ("float8", "torchao"), ("nf4", "bitsandbytes")])
def test_quantization_wants_its_package(kind, package, monkeypatch):
    monkeypatch.setattr("shared.compute.policy.find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        MemoryPolicy(quantization=kind).check_device("cpu")
    assert str(caught.value) == (
        f"quantization {kind}: expected the package {package}, got none. Try: pip install 'kinoform[{package}]'"
    )
    monkeypatch.setattr("shared.compute.policy.find_spec", lambda name: name == package or None)
    MemoryPolicy(quantization=kind).check_device("cpu")
    MemoryPolicy(quantization=kind, offload="model").check_device("cuda")
    with pytest.raises(InputError, match="offload: expected none or model with quantized weights, got group"):
        MemoryPolicy(quantization=kind, offload="group").check_device("cuda")

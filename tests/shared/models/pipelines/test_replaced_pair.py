"""Wan 2.2's transformers, one for much noise and one for little, each in its own place."""

import numpy as np
import pytest
import torch

from lab.kinds.pipelines import load_clips
from shared.errors import ModelError
from tests.shared.models.layouts import original_transformers as original
from tests.shared.models.layouts.narrow import assert_same_weights
from tests.shared.models.pipelines.test_replaced import ROUNDING, SHORT, in_place, made, other, written
from tests.shared.models.pipelines.tiny.clips import wan_2_2
from video.recipe import ClipRecipe

NAMES = ("transformer", "transformer_2")


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    wan_2_2().save_pretrained(folder := tmp_path_factory.mktemp("wan") / "model")
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_in_the_original_layout_are_as_if_they_were_in_place(wan, tmp_path, dtype):
    networks = {name: other(getattr(wan_2_2(), name), seed) for seed, name in enumerate(NAMES)}
    files = {
        name: written(original.wan(network.state_dict()), tmp_path / f"{name}.safetensors")
        for name, network in networks.items()
    }
    recipe = ClipRecipe.parse({**SHORT, "frames": 5, "model": str(wan)})
    model, got = made(load_clips, recipe, wan, dtype, **files)
    theirs, wanted = made(load_clips, recipe, in_place(wan, tmp_path, **networks), dtype)
    for name in NAMES:
        assert_same_weights(theirs.pipeline.components[name], model.pipeline.components[name])
    assert model.pipeline.config.boundary_ratio == 0.9
    assert np.abs(got - wanted).max() <= ROUNDING
    swapped = made(
        load_clips, recipe, wan, dtype, transformer=files["transformer_2"], transformer_2=files["transformer"]
    )
    assert np.abs(got - swapped[1]).max() > 0.01


def test_a_model_with_one_transformer_names_what_it_has(folder_of, tmp_path):
    file = written(original.wan(wan_2_2().transformer.state_dict()), tmp_path / "low.safetensors")
    with pytest.raises(ModelError) as caught:
        load_clips(str(folder_of("WanPipeline")), device="cpu", dtype=torch.float32, transformer_2=[file])
    line = str(caught.value)
    assert "\n" not in line
    for part in (
        f"transformer_2 {file}: expected a model that has one",
        "text_encoder",
        "transformer",
        "vae",
        "none in it",
    ):
        assert part in line, line

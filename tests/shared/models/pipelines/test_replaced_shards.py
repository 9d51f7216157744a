"""A part in several files: what one file gives; what is missing of them is one line."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lab.kinds.pipelines import load_pictures
from shared.errors import ModelError
from shared.images.recipe import ImageRecipe
from shared.models.adapters.recipe import check_adapters
from shared.models.image_model import load_image_model
from shared.plan.pipelines import plan_pipeline
from tests.shared.models.layouts.narrow import assert_same_weights
from tests.shared.models.layouts.test_original_networks import sd_35
from tests.shared.models.pipelines.test_replaced import SHORT, other, sd3  # noqa: F401
from tests.tiny import build_image_folder, tiny_unet
from video.recipe import ClipRecipe

INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture(scope="module")
def network():
    return other(sd_35())


@pytest.fixture
def shards(network, tmp_path):
    network.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) == 4
    return tmp_path / "shards"


def recipe(model, part):
    return ImageRecipe.parse({**SHORT, "model": str(model), "transformer": str(part)})


def loaded(model, part):
    return load_pictures(str(model), device="cpu", dtype=torch.float32, transformer=[recipe(model, part).transformer])


def test_it_is_what_one_file_gives(sd3, network, shards):  # noqa: F811
    assert_same_weights(network, loaded(sd3, shards).pipeline.transformer)
    assert_same_weights(network, loaded(sd3, shards / INDEX).pipeline.transformer)


def test_its_files_are_the_index_and_each_shard(sd3, shards):  # noqa: F811
    asked = recipe(sd3, shards)
    assert asked.transformer == str(shards / INDEX)
    names = {f"transformer.{i}": str(path) for i, path in enumerate(sorted(shards.glob("*.safetensors")))}
    assert asked.files() == {"transformer": str(shards / INDEX), **names}
    check_adapters(asked)


def test_a_plan_counts_every_shard(sd3, shards):  # noqa: F811
    own = ImageRecipe.parse({**SHORT, "model": str(sd3)})
    assert plan_pipeline(recipe(sd3, shards), "cpu").weights == plan_pipeline(own, "cpu").weights


def test_unets_of_the_core_too(tmp_path):
    folder, wanted = build_image_folder(tmp_path / "model"), tiny_unet(7)
    wanted.save_pretrained(tmp_path / "unet", max_shard_size="600KB")
    asked = ImageRecipe.parse({**SHORT, "model": str(folder), "unet": str(tmp_path / "unet")})
    assert asked.unet == str(tmp_path / "unet" / INDEX)
    assert_same_weights(wanted, load_image_model(folder, unet=[asked.unet]).unet)


def test_what_is_missing_is_one_line(sd3, shards):  # noqa: F811
    asked = recipe(sd3, shards)
    last = max(shards.glob("*.safetensors"))
    tensors = load_file(last)
    name = min(tensors)
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, last)
    assert said(lambda: loaded(sd3, shards)).endswith(f"got 1 missing, first {name}")
    whole = last.read_bytes()
    last.write_bytes(whole[:-1])
    assert f"transformer {last}" not in (line := said(lambda: check_adapters(asked)))
    assert f"{last}: expected a whole safetensors file" in line
    last.unlink()
    for call in (asked.files, lambda: check_adapters(asked), lambda: recipe(sd3, shards)):
        assert said(call) == f"weights in {shards}: expected every shard of its index, got no {last.name}"
    (shards / INDEX).write_text(json.dumps({"weight_map": {}}))
    assert said(asked.files) == f"weights in {shards}: expected every shard of its index, got an index that names none"
    (shards / INDEX).unlink()
    assert asked.files() == {"transformer": str(shards / INDEX)}  # which a run then says is not there


def test_motion_adapters_are_one_file(shards):
    with pytest.raises(Exception, match="a folder with one file of weights"):
        ClipRecipe.parse({"prompt": "a", "motion_adapter": str(shards)})


def said(call):
    with pytest.raises(ModelError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)

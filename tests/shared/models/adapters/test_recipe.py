"""What a recipe says of adapters, and what is refused before torch is there."""

import json

import pytest
import torch
from safetensors.torch import save_file

from shared.errors import InputError, ModelError
from shared.images.recipe import ImageRecipe
from shared.models.adapters.recipe import adapters_of, check_adapters
from shared.recipe import moved_file, weighted_file
from shared.training.recipe import ImageTrainRecipe
from video.recipe import ClipRecipe

INDEX = "diffusion_pytorch_model.safetensors.index.json"


def recipe(**adapters):
    return ImageRecipe.parse({"prompt": "a cube", **adapters})


def test_one_file_or_several_with_weights():
    several = recipe(lora=["a.safetensors", "b.safetensors:-0.5"], embeddings="c.safetensors")
    assert several.lora == ("a.safetensors", "b.safetensors:-0.5")
    assert recipe(lora="a.safetensors:0.7").lora == ("a.safetensors:0.7",)
    assert several.files() == {"lora.0": "a.safetensors", "lora.1": "b.safetensors", "embeddings.0": "c.safetensors"}
    assert recipe(**several.model_dump(include={"lora", "embeddings"})) == several
    assert adapters_of(recipe()) == adapters_of(ImageTrainRecipe()) == {}


def test_a_colon_in_a_path_is_no_weight():
    assert weighted_file("C:/loras/a.safetensors") == ("C:/loras/a.safetensors", 1.0)
    assert weighted_file("C:/loras/a.safetensors:1e-1") == ("C:/loras/a.safetensors", 0.1)
    assert moved_file("a:b.safetensors:.5", "c") == "c:.5"
    assert moved_file("a", "c") == "c"


@pytest.mark.parametrize(
    ("adapters", "part"),
    [
        ({"lora": ["a.safetensors:nan"]}, "lora: expected FILE, or FILE:WEIGHT such as style.safetensors:0.7"),
        ({"lora": [""]}, "lora: expected FILE, or FILE:WEIGHT"),
        ({"lora": 3}, "lora: "),
        ({"lora": [3]}, "lora.0: expected text, got 3"),
        ({"embeddings": ["a.safetensors:0.5"]}, "embeddings: expected FILE, without a weight"),
        ({"loras": ["a"]}, "unknown key loras"),
    ],
)
def test_what_is_none_is_refused(adapters, part):
    with pytest.raises(InputError) as error:
        recipe(**adapters)
    assert part in str(error.value)


@pytest.mark.parametrize(("name", "part"), [("a.pt", "a pickle"), ("a.safetensors", "a whole safetensors file")])
def test_files_are_checked_without_torch(name, part, tmp_path):
    (tmp_path / name).write_bytes(b"no such thing")
    with pytest.raises(ModelError, match=part):
        check_adapters(recipe(lora=[f"{tmp_path / name}:0.5"]))
    with pytest.raises(ModelError, match=part):
        check_adapters(recipe(embeddings=[str(tmp_path / name)]))


@pytest.fixture
def shards(tmp_path):
    """Three in a folder, with their index."""
    folder = tmp_path / "part"
    folder.mkdir()
    names = [f"diffusion_pytorch_model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    for i, name in enumerate(names):
        save_file({str(i): torch.ones(2)}, folder / name)
    weight_map = {str(i): name for i, name in enumerate(names)}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_the_files_of_shards_are_their_index_and_each(shards):
    for path in (shards, shards / INDEX):
        asked = recipe(transformer=str(path))
        assert asked.transformer == str(shards / INDEX)
        names = {f"transformer.{i}": str(file) for i, file in enumerate(sorted(shards.glob("*.safetensors")))}
        assert asked.files() == {"transformer": str(shards / INDEX), **names}
        check_adapters(asked)


def test_a_shard_that_is_cut_short_or_missing_is_one_line(shards):
    asked, last = recipe(transformer=str(shards)), max(shards.glob("*.safetensors"))
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(ModelError, match=f"{last}: expected a whole safetensors file"):
        check_adapters(asked)
    last.unlink()
    for call in (asked.files, lambda: check_adapters(asked), lambda: recipe(transformer=str(shards))):
        with pytest.raises(ModelError, match=f"{shards}: expected every shard of its index, got no {last.name}$"):
            call()
    (shards / INDEX).write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(ModelError, match="every shard of its index, got an index that names none"):
        asked.files()
    (shards / INDEX).unlink()
    assert asked.files() == {"transformer": str(shards / INDEX)}  # which a run then says is not there


def test_motion_adapters_are_one_file(shards):
    with pytest.raises(InputError, match="motion_adapter: expected a folder with one file of weights"):
        ClipRecipe.parse({"prompt": "a", "motion_adapter": str(shards)})

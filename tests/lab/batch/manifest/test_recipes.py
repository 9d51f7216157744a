"""Files and models that a manifest names."""

import json

import pytest

from lab.batch.manifest import read_manifest
from shared.errors import InputError


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """From a job's keys to its recipe, in a manifest that lies in another folder than the working one."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here / "world", here / "mine", there / "models", there / "pictures"):
        folder.mkdir(parents=True)
    (there / "one.safetensors").write_bytes(b"")
    (there / "pictures" / "a.png").write_bytes(b"")
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(there))

    def recipe(**keys):
        (there / "jobs.jsonl").write_text(json.dumps({"prompt": "a", **keys}))
        return read_manifest("../there/jobs.jsonl")[0].recipe

    return recipe


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("models", "there/models"),
        ("../there/./models/", "there/models"),
        ("one.safetensors", "there/one.safetensors"),
        ("~/models", "there/models"),
        ("mine", "here/mine"),
        ("world", None),
        ("owner/name", None),
        ("~nobody/models", None),
        ("a\0b", None),
    ],
)
def test_models_that_lie_here_have_whole_paths(recipe, tmp_path, model, path):
    assert recipe(model=model)["model"] == (str(tmp_path / path) if path else model)


@pytest.mark.parametrize("name", ["pictures/a.png", "../there/pictures/../pictures/a.png", "{there}/pictures/a.png"])
def test_files_are_found_from_the_manifest(recipe, tmp_path, name):
    there = tmp_path / "there"
    assert recipe(image=name.format(there=there))["image"] == str(there / "pictures" / "a.png")
    assert recipe(image=None)["image"] is None


def test_adapters_are_found_from_the_manifest_and_keep_their_weights(recipe, tmp_path):
    there = str(tmp_path / "there" / "one.safetensors")
    assert recipe(lora=["one.safetensors:0.5", there])["lora"] == [f"{there}:0.5", there]
    assert recipe(embeddings="../there/one.safetensors")["embeddings"] == [there]
    with pytest.raises(InputError, match=r"lora: expected a file that is there, got two\.safetensors"):
        recipe(lora=["two.safetensors:0.5"])


def test_adapters_of_the_command_are_found_from_where_it_runs(recipe, tmp_path):
    recipe()
    mine = tmp_path / "here" / "mine.safetensors"
    mine.write_bytes(b"")
    task = read_manifest("../there/jobs.jsonl", defaults={"lora": ["mine.safetensors:2"]})[0]
    assert task.recipe["lora"] == [f"{mine}:2"]

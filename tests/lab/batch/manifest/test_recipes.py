"""Files and models that a manifest names."""

import json

import pytest

from lab.batch.manifest import read_manifest


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

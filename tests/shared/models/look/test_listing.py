import shutil

import pytest

from shared.errors import InputError
from shared.models.look.listing import listed, models_in
from shared.models.source import WORLD
from tests.tiny import build_image_folder


@pytest.fixture
def models(tmp_path):
    """A folder with two models, one of them deeper, a file that is broken, and what is no model."""
    build_image_folder(tmp_path / "models/one")
    shutil.copytree(tmp_path / "models/one", tmp_path / "models/more/two")
    (tmp_path / "models/broken.safetensors").write_bytes(b"x")
    (tmp_path / "models/notes.txt").touch()
    (tmp_path / "models/.hidden").mkdir()
    shutil.copytree(tmp_path / "models/one/unet", tmp_path / "models/part")
    return tmp_path / "models"


def test_a_folder_of_models(models):
    wanted = [models / "broken.safetensors", models / "more/two", models / "one"]
    assert list(models_in(models)) == wanted
    assert list(models_in(models / "one")) == [models / "one"]
    found = list(listed([models], hub=False))
    assert [model.path for model in found] == [WORLD, *wanted]
    assert [model.look is None for model in found] == [False, True, False, False]
    assert "whole safetensors file" in found[1].problem


def test_the_cache_of_the_hub(models, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert [model.name for model in listed([])] == ["world"]
    shutil.copytree(models / "one", tmp_path / "cache/models--owner--name/snapshots/abc")
    (tmp_path / "cache/models--owner--words/snapshots/abc").mkdir(parents=True)
    assert [model.name for model in listed([])] == ["world", "owner/name"]
    assert [model.name for model in listed([], hub=False)] == ["world"]


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(InputError, match="a folder of models"):
        list(listed([tmp_path / "none"]))

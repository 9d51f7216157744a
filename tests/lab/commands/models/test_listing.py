"""`kinoform models` as a program and a person read it."""

import json

from lab.main import main
from tests.tiny import build_image_folder


def test_models(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    assert main(["models"]) == 0
    assert capsys.readouterr().out.startswith("world  ")
    build_image_folder(tmp_path / "models/mine")
    (tmp_path / "models/broken.safetensors").write_bytes(b"")
    assert main(["models", "--json"]) == 0
    models = {model["name"]: model for model in json.loads(capsys.readouterr().out)["models"]}
    assert list(models) == ["world", "models/broken.safetensors", "models/mine"]
    assert models["world"]["can"] == ["image", "clip", "asset", "score"]
    assert models["models/mine"]["can"] == ["image", "asset"]
    assert (models["models/mine"]["class"], models["models/mine"]["size"]) == ("StableDiffusionPipeline", [64, 64])
    assert "whole safetensors file" in models["models/broken.safetensors"]["problem"]
    assert main(["models", "models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "cannot be read: " in lines[1]
    assert lines[2].endswith("image, asset")
    assert main(["models", "nowhere"]) == 2
    assert "a folder of models, got nowhere" in capsys.readouterr().err

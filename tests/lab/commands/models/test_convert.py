"""`kinoform convert` as a command."""

import json

import numpy as np
import torch
from safetensors.torch import load_file

from lab.main import main
from shared.artifacts.media import read_image
from tests.lab.command import is_refusal
from tests.shared.models.layouts.narrow import build_single_file


def test_convert(tmp_path, capsys):
    torch.save({"a": torch.ones(2), "epoch": 3}, tmp_path / "a.pt")
    assert main(["convert", str(tmp_path / "a.pt"), str(tmp_path / "a.safetensors"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["outputs"] == [str(tmp_path / "a.safetensors")]
    assert result["warnings"] == ["1 entries that are no tensors are left out"]
    assert load_file(tmp_path / "a.safetensors").keys() == {"a"}


def test_a_file_and_the_folder_made_of_it_make_the_same_picture(tmp_path, capsys):
    file = build_single_file(tmp_path / "sd.safetensors", 1, metadata={"modelspec.prediction_type": "v"})
    assert main(["convert", str(file), str(tmp_path / "folder"), "--prediction-type", "epsilon"]) == 0
    build_single_file(file, 1, metadata={"modelspec.prediction_type": "epsilon"})
    pictures = []
    for model in (tmp_path / "folder", file):
        out = tmp_path / f"{model.stem}.png"
        flags = ["--steps", "2", "--size", "64x64", "--model", str(model)]
        assert main(["image", "a red cube", "-o", str(out), *flags]) == 0
        pictures.append(read_image(out))
    assert np.array_equal(*pictures)
    assert "this model was made for 512x512" in capsys.readouterr().err
    assert main(["plan", "image", "a red cube", "--size", "64x64", "--model", str(file)]) == 0


def test_refusals(tmp_path, capsys):
    torch.save({"a": torch.optim.SGD}, tmp_path / "a.pt")
    source, out = str(tmp_path / "a.pt"), str(tmp_path / "a.safetensors")
    assert is_refusal(main(["convert", source, out]), capsys.readouterr().err, "torch.optim.sgd.SGD, which is code")
    code = main(["convert", source, out, "--prediction-type", "noise"])
    assert is_refusal(code, capsys.readouterr().err, "epsilon or v_prediction, got noise")
    assert is_refusal(main(["convert", source]), capsys.readouterr().err, "OUT")
    assert not (tmp_path / "a.safetensors").exists()

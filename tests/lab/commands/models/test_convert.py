"""`kinoform convert` as a command."""

import json

import torch
from safetensors.torch import load_file

from lab.main import main
from tests.lab.command import is_refusal
from tests.shared.models.layouts.narrow import build_single_file


def test_convert(tmp_path, capsys):
    torch.save({"a": torch.ones(2), "epoch": 3}, tmp_path / "a.pt")
    assert main(["convert", str(tmp_path / "a.pt"), str(tmp_path / "a.safetensors"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["outputs"] == [str(tmp_path / "a.safetensors")]
    assert result["warnings"] == ["1 entries that are no tensors are left out"]
    assert load_file(tmp_path / "a.safetensors").keys() == {"a"}


def test_a_folder_that_makes_pictures(tmp_path, capsys):
    file = build_single_file(tmp_path / "sd.safetensors", 1)
    folder = tmp_path / "folder"
    assert main(["convert", str(file), str(folder), "--prediction-type", "epsilon"]) == 0
    flags = ["--steps", "1", "--size", "64x64", "--model"]
    for model in (folder, file):
        assert main(["image", "a cube", "-o", str(tmp_path / f"{model.name}.png"), *flags, str(model)]) == 0
        assert (tmp_path / f"{model.name}.png").is_file()


def test_refusals(tmp_path, capsys):
    torch.save({"a": torch.optim.SGD}, tmp_path / "a.pt")
    source, out = str(tmp_path / "a.pt"), str(tmp_path / "a.safetensors")
    assert is_refusal(main(["convert", source, out]), capsys.readouterr().err, "torch.optim.sgd.SGD, which is code")
    code = main(["convert", source, out, "--prediction-type", "noise"])
    assert is_refusal(code, capsys.readouterr().err, "epsilon or v_prediction, got noise")
    assert is_refusal(main(["convert", source]), capsys.readouterr().err, "OUT")
    assert not (tmp_path / "a.safetensors").exists()

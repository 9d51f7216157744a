"""`kinoform doctor`: it names what there is, and what does not work."""

import json

import torch

from lab.main import main
from shared.version import VERSION


def test_it_finds_what_is_here(model, capsys, monkeypatch):
    monkeypatch.setattr("shared.models.source.WORLD", model)
    assert main(["doctor", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    found = result["findings"]
    assert result["broken"] == []
    assert found["kinoform"] == VERSION
    assert found["torch"].startswith(torch.__version__)
    assert found["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]  # metadata may lack the build
    assert int(found["cores"]) >= 1
    starred = [line.split()[1] for line in found["attention"] if line.startswith("*")]
    assert len(starred) == 3  # one kernel is taken for each of three shapes
    assert starred[2] == "temporal"
    assert found["codecs"] == [".mp4 .webm .mov .gif .webp .apng folders of PNGs can be written and read"]
    names = [line.split()[0] for line in found["embedded model"]]
    assert "unet/diffusion_pytorch_model.safetensors" in names
    assert "temporal/diffusion_pytorch_model.safetensors" in names


def test_a_part_that_does_not_work_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("shared.models.source.WORLD", tmp_path)
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert "embedded model  BROKEN: ModelError: the embedded model: expected model_index.json" in out
    assert err == "kinoform: embedded model: does not work here\n"

"""Low-rank layers: nothing changes at first, and equal content is an equal file."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.artifacts.files import sha256
from shared.errors import InputError
from shared.training.personalise.low_rank import ALL, ATTENTION, add_low_rank, write_safetensors
from tests.tiny import tiny_unet


def test_new_layers_change_nothing_and_have_the_rank_asked_for():
    plain, changed = tiny_unet(), tiny_unet()
    layers = add_low_rank(changed, 3, ALL)
    x, t, text = torch.randn(2, 4, 16, 16), torch.tensor([1, 500]), torch.randn(2, 5, 32)
    with torch.no_grad():
        assert torch.equal(plain(x, t, text).sample, changed(x, t, text).sample)
    assert all(3 in layer.shape[:2] for layer in layers)
    assert len(layers) > len(add_low_rank(tiny_unet(), 3, ATTENTION))
    trained = [p for p in changed.parameters() if p.requires_grad]
    assert {id(p) for p in trained} >= {id(p) for p in layers}


def test_without_peft_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"expected the package peft, got none installed. pip install 'kinoform\[lora\]'"
    ):
        add_low_rank(tiny_unet(), 3, ATTENTION)


def test_the_order_of_metadata_is_fixed_and_the_library_reads_the_file(tmp_path):
    about = {f"key{i}": str(i) for i in range(9)}
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2)}
    write_safetensors(tmp_path / "here.safetensors", tensors, about)
    save_file(tensors, tmp_path / "stock.safetensors", about)
    ours, theirs = (load_file(tmp_path / f"{name}.safetensors") for name in ("here", "stock"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    code = (
        "import torch, sys; from pathlib import Path\n"
        "from shared.training.personalise.low_rank import write_safetensors\n"
        "tensors = {'b': torch.arange(3.0), 'a': torch.ones(2, 2)}\n"
        "write_safetensors(Path(sys.argv[1]), tensors, {f'key{i}': str(i) for i in reversed(range(9))})\n"
    )
    there = tmp_path / "there.safetensors"
    subprocess.run([sys.executable, "-c", code, str(there)], check=True, timeout=120)
    assert sha256(there) == sha256(tmp_path / "here.safetensors")

"""Latents outlive a decode that fails, and `kinoform decode` makes of them what the command would have made."""

import json
import shlex

import pytest
import torch
from safetensors.torch import save_file

from lab.main import main
from shared.artifacts.run_record import read_record
from shared.latents.codec import Codec
from tests.lab.command import is_refusal
from tests.lab.kinds.test_clip import SHORT

RUNS = {"clip.mp4": ["clip", *SHORT], "clip": ["clip", *SHORT], "image.png": ["image", "--steps", "2"]}


def make(model, path, *flags):
    name, *short = RUNS[path.name]
    return main([name, "a red cube moving left", "--model", str(model), *short, "-o", str(path), *flags])


def failing(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(Codec, "decode", fail)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("the device is gone")], ids=["memory", "device"])
def test_a_failed_decode_costs_nothing(model, tmp_path, capsys, monkeypatch, name, error):
    whole, path = tmp_path / "whole" / name, tmp_path / name
    whole.parent.mkdir()
    assert make(model, whole) == 0
    assert [entry.name for entry in whole.parent.iterdir()] == [name]  # latents go once the output is there
    with monkeypatch.context() as broken:
        failing(broken, error)
        capsys.readouterr()
        assert make(model, path) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert not path.exists()
    command = line.partition("What was sampled is kept: kinoform ")[2]
    assert shlex.split(command) == ["decode", f"{path}.latents.safetensors", "-o", str(path)]
    assert main(shlex.split(command)) == 0
    files = [[f.read_bytes() for f in sorted(p.iterdir())] if p.is_dir() else p.read_bytes() for p in (path, whole)]
    assert files[0] == files[1]


@pytest.fixture
def kept(model, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as broken:
        failing(broken, MemoryError())
        assert make(model, tmp_path / "clip.mp4") == 1
    capsys.readouterr()
    return tmp_path / "clip.mp4.latents.safetensors"


def test_it_takes_other_settings_and_a_name_from_the_file(kept, capsys):
    assert main(["decode", str(kept), "--decode", "sliced", "--decode-frames", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    output = kept.with_name("clip.mp4")
    assert result["outputs"] == [str(output)]
    assert set(result["seconds"]) == {"load", "decode", "write", "total"}
    recipe = read_record(output).recipe
    assert (recipe["decode"], recipe["decode_frames"]) == ("sliced", 1)
    assert kept.exists()  # it is the user's to delete


def test_what_cannot_be_decoded_is_refused(kept, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    save_file({"latents": torch.zeros(1, 4, 8, 8)}, other)
    renamed = kept.rename(tmp_path / "renamed.safetensors")
    for arguments, parts in (
        ([tmp_path / "none.latents.safetensors"], ("file", "a file that exists")),
        ([other, "-o", "a.png"], ("file", "a file made by kinoform")),
        ([renamed], ("decode", "-o FILE")),
        ([renamed, "-o", tmp_path / "a.png"], ("output", ".mp4")),
        ([renamed, "-o", tmp_path / "a.mp4", "--decode", "halves"], ("decode", "whole, sliced or tiled")),
    ):
        assert is_refusal(main(["decode", *map(str, arguments)]), capsys.readouterr().err, *parts), arguments


def test_an_interrupt_leaves_nothing(model, tmp_path, monkeypatch):
    failing(monkeypatch, KeyboardInterrupt())
    assert make(model, tmp_path / "clip.mp4") == 130
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_refused_and_a_whole_one_described(kept, tmp_path, capsys):
    assert main(["describe", str(kept)]) == 0
    assert "command: clip" in capsys.readouterr().out
    damaged = tmp_path / "cut.mp4.latents.safetensors"
    for size in (4, 100, kept.stat().st_size - 8):
        damaged.write_bytes(kept.read_bytes()[:size])
        assert is_refusal(main(["decode", str(damaged)]), capsys.readouterr().err, "file"), size
    assert not (tmp_path / "cut.mp4").exists()

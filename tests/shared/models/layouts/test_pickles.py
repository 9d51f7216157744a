import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import load_file

from shared.errors import ModelError
from shared.models.layouts.pickles import unpickled


class Evil:
    """Would make a file, were it ever unpickled."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/kinoform-was-run",)


def test_tensors_come_through(tmp_path):
    shared = torch.randn(4, 6)
    tensors = {
        "half": torch.randn(3).half(),
        "brain": torch.randn(3).bfloat16(),
        "numbers": torch.arange(5),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "tied": shared,
        "tied too": shared,
        "a part": shared[1:3],
        "turned": shared.T,
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    for new in (True, False):
        torch.save(tensors, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
        assert unpickled(tmp_path / "a.pt", tmp_path / "a.safetensors") == 0
        got = load_file(tmp_path / "a.safetensors")
        assert got.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert got[name].dtype == tensor.dtype
            assert torch.equal(got[name], tensor.detach())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "a.safetensors"]


def test_checkpoints_of_trainers(tmp_path):
    value = {"epoch": 3, "state_dict": {"a": torch.ones(2), "steps": 7}}
    torch.save(value, tmp_path / "a.ckpt")
    assert unpickled(tmp_path / "a.ckpt", tmp_path / "a.safetensors") == 1
    assert load_file(tmp_path / "a.safetensors").keys() == {"a"}


def compressed_zeros(file):
    """Many zeros in a small file."""
    torch.save({"a": torch.zeros(2**26, dtype=torch.uint8)}, file)
    with zipfile.ZipFile(file) as small:
        entries = {name: small.read(name) for name in small.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as large:
        for name, content in entries.items():
            large.writestr(name, content)


REFUSED = {
    "code": (lambda file: torch.save({"a": Evil()}, file), "mkdir, which is code"),
    "code in an old pickle": (lambda file: file.write_bytes(pickle.dumps({"a": Evil()})), "pickle of tensors alone"),
    "NaN": (lambda file: torch.save({"b": torch.tensor([1, torch.nan])}, file), "b: NaN or infinity"),
    "text": (lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\n"), "a pickle of tensors"),
    "half of it": (
        lambda file: (torch.save({"a": torch.ones(999)}, file), file.write_bytes(file.read_bytes()[:2000])),
        "a pickle of tensors",
    ),
    "one number many times": (
        lambda file: torch.save({"a": torch.ones(1).expand(2**30)}, file),
        "more memory than its size gives reason for",
    ),
    "compressed zeros": (compressed_zeros, "an archive with compressed parts"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind, tmp_path):
    make, message = REFUSED[kind]
    make(tmp_path / "a.pt")
    with pytest.raises(ModelError, match=message) as caught:
        unpickled(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
    assert not os.path.exists("/tmp/kinoform-was-run")


def test_where_the_user_stands_is_not_imported_from(tmp_path, monkeypatch):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    (tmp_path / "torch.py").write_text("raise SystemExit('code of a stranger')")
    monkeypatch.chdir(tmp_path)
    assert unpickled(tmp_path / "a.pt", tmp_path / "a.safetensors") == 0

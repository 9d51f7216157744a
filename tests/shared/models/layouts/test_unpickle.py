"""What the process that reads pickles does; its limits are tested with `shared.models.layouts.pickles`."""

import pytest
import torch

from shared.errors import ModelError
from shared.models.layouts.unpickle import reason, tensors_of


def test_tensors_are_found_where_trainers_keep_them():
    a = torch.ones(2)
    for value, others in (
        ({"a": a}, 0),
        ({"a": a, "epoch": 3}, 1),
        ({"state_dict": {"a": a}, "epoch": 3}, 0),
        ({"model": {"state_dict": {"a": a, "note": "x"}}}, 1),
    ):
        tensors, left_out = tensors_of(value)
        assert tensors.keys() == {"a"}
        assert left_out == others


def test_tied_tensors_come_apart_and_others_are_not_copied():
    one, part = torch.randn(4, 4), torch.randn(3)
    tensors, _ = tensors_of({"one": one, "two": one, "turned": torch.randn(2, 3).T, "alone": part})
    assert torch.equal(tensors["one"], tensors["two"])
    assert tensors["one"].data_ptr() != tensors["two"].data_ptr()
    assert tensors["turned"].is_contiguous()
    assert tensors["alone"].data_ptr() == part.data_ptr()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1}, "no tensors by name, but a dict"),
        ({3: torch.ones(2)}, "no tensors by name, but a dict"),
        (torch.ones(2), "no tensors by name, but a Tensor"),
        ([torch.ones(2)], "no tensors by name, but a list"),
        ({"a": torch.eye(2).to_sparse()}, "a, a tensor that is sparse"),
    ],
)
def test_what_holds_none(value, message):
    with pytest.raises(ModelError, match=message) as caught:
        tensors_of(value)
    assert reason(caught.value) == caught.value.got


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda file: torch.save(torch.nn.Linear(2, 2), file), "torch.nn.modules.linear.Linear, which is code"),
        (lambda file: torch.save({"a": torch.optim.SGD}, file), "torch.optim.sgd.SGD, which is code"),
        (lambda file: file.write_bytes(b""), "EOFError"),
        (lambda file: file.write_bytes(b"not one"), "UnpicklingError"),
    ],
)
def test_reasons_are_one_line(make, words, tmp_path):
    make(tmp_path / "a.pt")
    with pytest.raises(Exception) as caught:
        torch.load(tmp_path / "a.pt", weights_only=True)
    assert words in reason(caught.value)
    assert "\n" not in reason(caught.value)


def test_memory_is_named():
    assert reason(RuntimeError("DefaultCPUAllocator: can't allocate memory")).startswith("more memory")
    assert reason(FileNotFoundError(2, "No such file or directory")) == "No such file or directory"

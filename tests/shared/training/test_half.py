"""In which precision a stage computes."""

import pytest
import torch

from shared.training import half
from shared.training.half import autocast, in_half


@pytest.mark.parametrize("can", [True, False])
def test_auto_is_what_the_hardware_has_instructions_for(monkeypatch, can):
    monkeypatch.setattr(half, "cpu_multiplies_bfloat16", lambda: can)
    assert in_half("auto", "cpu") is can
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: can and not including_emulation)
    assert in_half("auto", torch.device("cuda", 0)) is can


def test_what_is_asked_for_is_what_runs():
    assert in_half("bf16", "cpu")
    assert not in_half("fp32", "cuda")
    x = torch.randn(4, 4)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with autocast(precision, "cpu"):
            assert (x @ x).dtype is dtype

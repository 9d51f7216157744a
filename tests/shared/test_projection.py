"""The projection of frames' features against torch's own linear layer, forward and backward."""

import pytest
import torch
from torch.nn.functional import linear

from shared.projection import project
from tests.tolerances import close


def inputs(dtype, bias, layout):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 7, 12, dtype=dtype)
    if layout == "strided":  # frames last in memory
        x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    return x, torch.randn(20, 12, dtype=dtype), torch.randn(20, dtype=dtype) if bias else None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", ["contiguous", "strided"])
def test_it_is_a_linear_layer_with_its_gradients(dtype, bias, layout):
    found = []
    for layer in (project, linear):
        x, weight, offset = inputs(dtype, bias, layout)
        leaves = [leaf.requires_grad_(True) for leaf in (x, weight, offset) if leaf is not None]
        out = layer(x, weight, offset)
        gradients = torch.autograd.grad(out.float().square().mean(), leaves)
        found.append([out.detach(), *gradients])
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, **close(dtype))


def test_no_frames_and_no_positions_give_none():
    for shape in ((2, 0, 7, 12), (2, 5, 0, 12)):
        assert project(torch.zeros(shape), torch.ones(3, 12)).shape == (*shape[:3], 3)

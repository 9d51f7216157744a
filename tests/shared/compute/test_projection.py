"""The projection of frames' features against torch's own linear layer, forward and backward."""

import pytest
import torch
from torch import nn

from shared.compute.projection import Projection
from tests.tolerances import close


def features(dtype, layout):
    x = torch.randn(2, 5, 7, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    if layout == "strided":  # frames last in memory
        x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    return x.requires_grad_(True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", ["contiguous", "strided"])
def test_it_is_a_linear_layer_with_its_gradients_and_weights(dtype, bias, layout):
    found, state = [], None
    for kind in (Projection, nn.Linear):
        torch.manual_seed(1)
        layer = kind(12, 20, bias=bias).to(dtype)
        state = state or layer.state_dict()
        layer.load_state_dict(state)
        x = features(dtype, layout)
        out = layer(x)
        found.append([out.detach(), *torch.autograd.grad(out.float().square().mean(), [x, *layer.parameters()])])
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, **close(dtype))


def test_no_frames_and_no_positions_give_none():
    for shape in ((2, 0, 7, 12), (2, 5, 0, 12)):
        assert Projection(12, 3)(torch.zeros(shape)).shape == (*shape[:3], 3)

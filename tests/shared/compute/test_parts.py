import pytest
import torch
from diffusers.models.attention import FeedForward

from shared.compute import parts
from tests.tiny import tiny_unet
from tests.tolerances import close


@pytest.mark.parametrize("part", [2**22, 256 * 5, 1])
def test_parts_make_the_whole(part, monkeypatch):
    torch.manual_seed(0)
    layer = FeedForward(32)
    x = torch.randn(3, 7, 32, requires_grad=True)
    wanted = layer(x)
    (gradient,) = torch.autograd.grad(wanted.square().sum(), x)
    monkeypatch.setattr(parts, "PART", part)
    parts.feed_forward_by_parts(layer)
    got = layer(x)
    torch.testing.assert_close(got, wanted, **close(torch.float32))
    torch.testing.assert_close(torch.autograd.grad(got.square().sum(), x)[0], gradient, rtol=1e-4, atol=1e-4)


def test_no_part_is_wider_than_asked(monkeypatch):
    monkeypatch.setattr(parts, "PART", 256 * 5)
    layer = FeedForward(32)
    parts.feed_forward_by_parts(layer)
    seen = []
    layer.net[0].register_forward_hook(lambda module, args, output: seen.append(len(output)))
    layer(torch.randn(3, 7, 32))
    assert seen == [5, 5, 5, 5, 1]


def test_every_feed_forward_layer_of_a_unet_is_changed_and_no_weight():
    unet = tiny_unet()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    parts.feed_forward_by_parts(unet)
    found = [module for module in unet.modules() if isinstance(module, FeedForward)]
    assert found
    assert all(type(module) is parts.PartedFeedForward for module in found)
    assert unet.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())

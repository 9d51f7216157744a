import copy

import pytest
import torch
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

from shared.compute import parts
from tests.tolerances import close
from video.motion.module import FramesProcessor, MotionModule


def modules(blocks=1):
    """A stock module, and the same as ours."""
    torch.manual_seed(0)
    stock = AnimateDiffTransformer3D(
        4, 8, in_channels=32, num_layers=blocks, norm_num_groups=8, positional_embeddings="sinusoidal",
        num_positional_embeddings=8,
    ).eval()  # fmt: skip
    ours = copy.deepcopy(stock)
    ours.__class__ = MotionModule
    for block in ours.transformer_blocks:
        block.attn1.set_processor(FramesProcessor())
        block.attn2.set_processor(FramesProcessor())
    return stock, ours


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("part", [2**22, 6 * 3 * 256, 1])  # all positions at once, 3 of them, 1
def test_it_computes_what_diffusers_does(layout, part, monkeypatch):
    monkeypatch.setattr(parts, "PART", part)
    stock, ours = modules(blocks=2)
    z = torch.randn(6, 32, 5, 4).to(memory_format=layout)
    with torch.no_grad():
        got, wanted = ours(z, 3), stock(z, num_frames=3)
    torch.testing.assert_close(got, wanted, **close(torch.float32))
    assert got.is_contiguous(memory_format=layout)
    assert (wanted - z).abs().max() > 0.1


def test_gradients_are_the_same(monkeypatch):
    monkeypatch.setattr(parts, "PART", 2 * 256)
    stock, ours = modules()
    z = torch.randn(2, 32, 4, 4)
    for module in (stock, ours):
        module(z, num_frames=2).square().mean().backward()
    for (name, a), (_, b) in zip(stock.named_parameters(), ours.named_parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-6, msg=name)

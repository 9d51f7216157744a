"""What a sample of a batch gets is, bit for bit, what it would get alone."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from shared.attention import install_attention
from shared.diffusion.exact_batches import ROWS, ExactBatches, padded_linear
from tests.tiny import tiny_unet

WIDTHS = [(4, 32), (32, 128), (128, 512), (512, 512), (77, 13)]


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + shape[0]))


@pytest.mark.parametrize(("inner", "outer"), WIDTHS)
def test_a_row_does_not_depend_on_how_many_there_are(inner, outer):
    x, weight, bias = drawn(2 * ROWS, inner), drawn(outer, inner), drawn(outer)
    alone = torch.cat([padded_linear(x[i : i + 1], weight, bias) for i in range(2 * ROWS)])
    for rows in (2, 3, 4, 5, 8, 16, 31, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS):
        assert torch.equal(padded_linear(x[:rows], weight, bias), alone[:rows]), rows
        assert torch.equal(padded_linear(x[-rows:], weight, bias), alone[-rows:]), rows


@pytest.mark.parametrize("shape", [(32,), (1, 32), (0, 32), (3, 5, 32), (2, 3, 4, 32), (ROWS, 32), (2, ROWS, 32)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_it_is_the_linear_map(shape, with_bias):
    x, weight, bias = drawn(*shape), drawn(8, 32), drawn(8) if with_bias else None
    expected = torch.einsum("...i,oi->...o", x.double(), weight.double()) + (0 if bias is None else bias.double())
    made = padded_linear(x, weight, bias)
    assert made.shape == (*shape[:-1], 8)
    torch.testing.assert_close(made.double(), expected, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_the_plain_one():
    x, weight, bias = (t.requires_grad_() for t in (drawn(3, 32), drawn(8, 32), drawn(8)))
    ours = torch.autograd.grad(padded_linear(x, weight, bias).square().sum(), (x, weight, bias))
    plain = torch.autograd.grad(F.linear(x, weight, bias).square().sum(), (x, weight, bias))
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("installed", [False, True], ids=["stock", "ours"])
@pytest.mark.parametrize("size", [8, 16])
def test_a_network_gives_each_sample_of_a_batch_what_it_gives_it_alone(installed, size):
    unet = tiny_unet()
    if installed:
        install_attention(unet)
    x, t, text = drawn(5, 4, size, size), torch.tensor([999, 3, 500, 500, 20]), drawn(5, 16, 32)
    with torch.no_grad(), ExactBatches():
        alone = torch.cat([unet(x[i : i + 1], t[i : i + 1], text[i : i + 1]).sample for i in range(5)])
        for count in (2, 5):
            together = unet(x[:count], t[:count], text[:count]).sample
            assert torch.equal(together, alone[:count]), count
    with torch.no_grad():
        torch.testing.assert_close(alone, unet(x, t, text).sample, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_sample_alone_is_convolved_as_one_of_several(layout):
    weight, bias = drawn(16, 8, 3, 3), drawn(16)
    for size, padding in product((4, 8, 16, 64), (0, 1)):  # the last is large, and goes the same way alone
        x = drawn(3, 8, size, size).contiguous(memory_format=layout)
        with ExactBatches():
            together = F.conv2d(x, weight, bias, padding=padding)
            alone = [F.conv2d(x[i : i + 1], weight, bias, padding=padding) for i in range(3)]
        assert torch.equal(torch.cat(alone), together), (size, padding)


@pytest.mark.parametrize("heads_first", [True, False])
def test_a_sample_alone_is_multiplied_as_one_of_several(heads_first):
    """Whether its heads lie apart in memory or, as linear maps leave them, side by side at each position."""

    def shaped(length, width, rows):
        x = drawn(5, 4, length, width) if heads_first else drawn(5, length, 4, width)
        x = x[rows].clone()  # as a network makes it: for these samples alone
        return x if heads_first else x.transpose(1, 2)

    for queries, keys, width in product((1, 2, 17), (16, 17, 64), (8, 48)):
        with ExactBatches():
            together = torch.matmul(shaped(queries, width, slice(5)) * 0.3, shaped(keys, width, slice(5)).mT)
            for i in range(5):
                one = slice(i, i + 1)
                for multiply in (torch.matmul, torch.Tensor.matmul, lambda a, b: a @ b):
                    alone = multiply(shaped(queries, width, one) * 0.3, shaped(keys, width, one).mT)
                    assert torch.equal(alone, together[one]), (queries, keys, width)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, layer: layer(x),
        lambda x, layer: F.linear(x, layer.weight, layer.bias),
        lambda x, layer: F.linear(x, layer.weight, bias=layer.bias),
        lambda x, layer: F.linear(input=x, weight=layer.weight, bias=layer.bias),
    ],
    ids=["module", "positions", "bias by name", "names"],
)
def test_every_way_to_call_it_is_covered_inside_and_nothing_outside(call, monkeypatch):
    padded = []
    monkeypatch.setattr(
        "shared.diffusion.exact_batches.padded_linear", lambda *args, **_: padded.append(len(args)) or 7
    )
    layer, x = nn.Linear(32, 8), drawn(3, 32)
    with ExactBatches():
        assert call(x, layer) == 7
        assert torch.equal(F.relu(x), x.clamp(min=0))  # others are as they are
    assert torch.is_tensor(call(x, layer))
    assert len(padded) == 1

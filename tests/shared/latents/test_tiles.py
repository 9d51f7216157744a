"""Tiles: weights that add up, a network that sees single positions, and group norms of the whole picture."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from shared.latents.tiles import OVERLAP, SETTLED, SMALLEST_TILE, decode_by_tiles, spans
from tests.near import near


def picture(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("length", "tile"), [(8, 20), (20, 20), (21, 20), (64, 24), (100, 64), (333, 32)])
def test_tiles_cover_an_axis_with_weights_that_add_up_to_1(length, tile):
    total, cores = torch.zeros(length), torch.zeros(length)
    found = spans(length, tile)
    for span in found:
        assert len(span.weights) == span.stop - span.start <= tile
        total[span.start : span.stop] += span.weights
        cores[span.core[0] : span.core[1]] += 1
    near(total, torch.ones(length))
    assert (cores == 1).all()
    assert all(a.stop - b.start >= OVERLAP for a, b in pairwise(found))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 31), (20, 53)])
def test_a_network_that_sees_single_positions_has_no_seams(height, width):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 3, 1), nn.Upsample(scale_factor=2))
    z = picture(2, 4, height, width)
    near(decode_by_tiles(network, z, tile=SMALLEST_TILE, factor=2), network(z))


@torch.no_grad()
def test_group_norms_divide_by_what_the_whole_picture_has():
    torch.manual_seed(0)
    norms = [nn.GroupNorm(2, 4) for _ in range(3)]
    layers = [module for norm in norms for module in (norm, nn.SiLU(), nn.Conv2d(4, 4, 1))]
    network = nn.Sequential(nn.Conv2d(4, 4, 1), *layers)
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    z = picture(2, 4, 50, 23) * torch.linspace(0.1, 5, 50)[:, None]  # no tile is like the whole
    runs = []
    network[0].register_forward_hook(lambda *_: runs.append(1))
    whole, runs[:] = network(z), []
    near_enough = {"rtol": 0, "atol": 20 * SETTLED}
    torch.testing.assert_close(decode_by_tiles(network, z, tile=20, factor=1, norms=norms), whole, **near_enough)
    tiles = len(spans(50, 20)) * len(spans(23, 20))
    assert len(runs) <= tiles * (len(norms) + 1)
    without = decode_by_tiles(network, z, tile=20, factor=1)
    assert (without - whole).abs().max() > 0.1  # that is what they are for
    near(network(z), whole)  # the norms are themselves again


def test_gradients_come_through():
    torch.manual_seed(0)
    network = nn.Conv2d(4, 3, 1)
    z = picture(1, 4, 30, 20).requires_grad_()
    (wanted,) = torch.autograd.grad(network(z).square().sum(), z)
    (got,) = torch.autograd.grad(decode_by_tiles(network, z, tile=20, factor=1).square().sum(), z)
    near(got, wanted)

"""Programs without values: answers, sizes of picks, and that nothing is allocated."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from shared.artifacts.pixels import to_uint8
from shared.plan.hollow import hollow


def test_nothing_is_allocated():
    with hollow():
        x = torch.zeros(2**20, 2**20) + 1  # four terabytes
        assert x.shape == (2**20, 2**20)
        assert x.device.type == "cpu"


def test_answers_are_those_of_a_run_that_goes_well():
    with hollow():
        x = torch.randn(4, 3)
        assert float(x.sum()) == 0
        assert bool(x.isfinite().all())
        assert not bool((x == 0).any())
        assert x[0].tolist() == [0.0, 0.0, 0.0]
        assert int(torch.tensor(7)) == 7
        np.testing.assert_array_equal(to_uint8(torch.randn(2, 3, 4, 4)), np.zeros((2, 4, 4, 3)))


def test_picks_by_one_mask_have_one_size_forward_and_backward():
    shares = {torch.ops.aten.lt: 0.25, torch.ops.aten.ge: 0.5}
    with hollow(shares.__getitem__):
        x = torch.zeros(8, 4, requires_grad=True)
        mask = x < 1
        picked = x[mask]
        assert picked.shape == (8,)
        assert mask.nonzero().shape == (8, 2)
        kept = picked >= 0
        assert picked[kept].shape == (4,)
        both = mask.masked_scatter(mask, kept)
        assert x[both].shape == (4,)
        assert x.masked_scatter(mask, picked).shape == x.shape
        picked.sum().backward()
        assert x.grad.shape == x.shape
        x.detach()[mask] = 1.0


def test_a_mask_beside_other_indices_is_refused():
    with hollow(), pytest.raises(NotImplementedError):
        x = torch.zeros(4, 4)
        x[x[0] < 1, x[0].long()]


def test_networks_are_copied_and_converted():
    with hollow():
        network = nn.Conv2d(3, 4, 3)
        half = copy.deepcopy(network).half()
        assert half.weight.dtype == torch.float16
        assert half.weight.requires_grad
        assert network.weight.dtype == torch.float32


def test_it_ends():
    with hollow():
        pass
    assert float(torch.ones(()) + 1) == 2

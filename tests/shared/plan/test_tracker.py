"""The tracker against peaks and work counted by hand."""

import pytest
import torch
from torch import nn

from shared.plan.hollow import hollow
from shared.plan.tracker import Tracker, convolution_workspace

KB = 1024  # 256 numbers of four bytes


def kilobyte() -> torch.Tensor:
    return torch.zeros(256)


def test_a_chain_holds_two_at_a_time():
    with Tracker() as tracker:
        x = kilobyte()
        for _ in range(5):
            x = x + 1
        assert tracker.live == KB
    assert tracker.peak().total == 2 * KB


def test_views_and_in_place_operations_take_nothing():
    with Tracker() as tracker:
        x = kilobyte()
        y = x.view(16, 16).T[2:]
        y.mul_(2).add_(1)
        del x
        assert tracker.live == KB  # y is still there
        del y
        assert tracker.live == 0
    assert tracker.peak().total == KB


def test_the_peak_is_not_what_is_left():
    with Tracker() as tracker:
        large = torch.zeros(10, 256)
        small = large[0].clone()
        del large
        kept = [small, kilobyte(), kilobyte()]
        assert tracker.live == 3 * KB
    assert tracker.peak().total == 11 * KB
    assert len(kept) == 3


def test_a_storage_counts_once_under_its_label():
    weight = kilobyte()
    with Tracker() as tracker:
        tracker.track([weight, weight.view(16, 16), weight])
        tracker.label("weights", [weight[3:]])
        out = weight * 2
    assert out.shape == weight.shape
    assert tracker.peak().kinds == {"weights": KB, "activations": KB}


def test_what_autograd_saves_lives_until_backward():
    x = kilobyte().requires_grad_()
    with Tracker() as tracker:
        tracker.track([x])
        y = x
        for _ in range(4):
            y = y.exp()  # each saves its result
        y = y.sum()
        assert tracker.live == 5 * KB + 4
        y.backward()
        del y
        tracker.label("gradients", [x.grad])
        assert tracker.live == 2 * KB  # x and its gradient
    # Four results, x, the gradient that arrives at the last of them, and the one that leaves it.
    assert 6 * KB <= tracker.peak().total <= 7 * KB + 16


def test_memory_that_no_tensor_holds():
    with Tracker() as tracker:
        free = tracker.allocate(3 * KB, "workspace")
        x = kilobyte()
        free()
        y = x + x
    assert y.shape == x.shape
    assert tracker.peak().kinds == {"workspace": 3 * KB, "activations": KB}
    assert tracker.live == 2 * KB


def test_the_heap_wastes_for_what_comes_and_goes_only():
    weight = kilobyte()
    with Tracker() as tracker:
        tracker.track([weight])
        tracker.label("weights", [weight])
        out = weight + 1
    assert out.shape == weight.shape
    assert tracker.peak(heap_waste=0.5).kinds == {"weights": KB, "activations": KB, "allocator": KB // 2}


def test_the_heap_does_not_shrink():
    with Tracker() as tracker:
        torch.zeros(10, 256)  # gone at once
        tracker.allocate(2**26, "workspace")()
    assert tracker.peak().total == 2**26
    assert tracker.peak(heap_waste=0.0).total == 2**26 + 10 * KB


def test_a_large_block_wastes_nothing():
    with hollow(), Tracker() as tracker:
        out = torch.empty(2**24)
    assert out.shape == (2**24,)
    assert tracker.peak(heap_waste=0.5).total == 2**26


@pytest.mark.parametrize("inside", [False, True])
def test_flops_of_products_and_convolutions(inside):
    def work():
        torch.zeros(3, 5) @ torch.zeros(5, 7)
        torch.zeros(2, 3, 5) @ torch.zeros(2, 5, 7)
        nn.functional.conv2d(torch.zeros(2, 3, 8, 8), torch.zeros(4, 3, 3, 3), padding=1)

    with Tracker() as tracker:
        if inside:
            with hollow():
                work()
        else:
            work()
    assert tracker.flops == 2 * 3 * 5 * 7 + 2 * (2 * 3 * 5 * 7) + 2 * (2 * 4 * 8 * 8) * (3 * 3 * 3)


def test_a_training_step_without_values_takes_what_one_with_values_takes():
    def peak() -> int:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 8))
        with Tracker() as tracker:
            tracker.track(network.parameters())
            optimizer = torch.optim.AdamW(network.parameters())
            for _ in range(2):
                optimizer.zero_grad(set_to_none=True)
                network(torch.zeros(16, 32)).square().mean().backward()
                optimizer.step()
        return tracker.peak().total

    real = peak()
    with hollow():
        assert peak() == pytest.approx(real, rel=0.01)


def test_channels_last_needs_no_blocked_copies():
    convolution = torch.ops.aten.convolution.default
    picture = torch.zeros(2, 16, 8, 8)
    assert convolution_workspace(convolution, [picture], [picture]) == [picture.numel() * 4] * 2
    flat = picture.to(memory_format=torch.channels_last)
    assert convolution_workspace(convolution, [flat], [flat]) == []
    assert convolution_workspace(torch.ops.aten.add.Tensor, [picture], [picture]) == []

"""Chunked attention: the same numbers over many chunks, gradients of the mask too, and the memory that it promises."""

import pytest
import torch

from shared.attention import attend
from shared.attention.kernels import chunked as module
from shared.attention.kernels.reference import attend_reference
from shared.plan.tracker import Tracker
from tests.near import near


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 5), (7, 64), (64, 7)])
@pytest.mark.parametrize("mask_shape", [None, (2, 1, 33, 41), (1, 3, 1, 41), (1, 1, 33, 1), (2, 3, 33, 41)])
def test_any_chunks_give_the_reference_and_its_gradients(monkeypatch, queries, keys, mask_shape):
    monkeypatch.setattr(module, "KEYS", keys)
    monkeypatch.setattr(module, "SCORES", 2 * 3 * queries * keys)
    inputs = [draw(2, 3, 33, 8, seed=1), draw(2, 3, 41, 8, seed=2), draw(2, 3, 41, 6, seed=3)]
    if mask_shape is not None:
        inputs.append(draw(*mask_shape, seed=4))
    upstream = draw(2, 3, 33, 6, seed=5)
    results = []
    for call, dtype in ((module.attend_chunked, torch.float32), (attend_reference, torch.float64)):
        q, k, v, *mask = leaves = [x.to(dtype).requires_grad_() for x in inputs]
        out = call(q, k, v, mask=mask[0] if mask else None, scale=0.4)
        results.append([out, *torch.autograd.grad(out, leaves, upstream.to(dtype))])
    for have, want in zip(*results, strict=True):
        near(have, want.float())


def test_scores_of_any_size_do_not_overflow():
    q, k, v = draw(1, 1, 4, 8, seed=1) * 1e4, draw(1, 1, 600, 8, seed=2), draw(1, 1, 600, 8, seed=3)
    near(module.attend_chunked(q, k, v), attend_reference(q.double(), k.double(), v.double()).float())


def test_memory_does_not_grow_with_the_square_of_the_length():
    """8 heads of 8,192 tokens have 2 GiB of scores; forward and backward may hold a tenth of that at most."""
    q, k, v = (draw(1, 8, 8192, 8, seed=seed).requires_grad_() for seed in (1, 2, 3))
    with Tracker() as tracker:
        attend(q, k, v, backend="chunked").sum().backward()
    scores = 8 * 8192**2 * 4
    assert 4 * module.SCORES < tracker.peak().total < 0.1 * scores


@pytest.mark.parametrize("needed", [(True, True, True, True), (True, False, False, False), (False, False, True, True)])
def test_second_derivatives_are_the_references(monkeypatch, needed):
    """A gradient penalty: of the squared gradients, the gradient again."""
    monkeypatch.setattr(module, "KEYS", 4)
    inputs = [draw(2, 3, 9, 8, seed=1), draw(2, 3, 11, 8, seed=2), draw(2, 3, 11, 6, seed=3), draw(1, 3, 9, 11, seed=4)]
    upstream, results = draw(2, 3, 9, 6, seed=5), []
    for call, dtype in ((module.attend_chunked, torch.float32), (attend_reference, torch.float64)):
        leaves = [x.to(dtype).requires_grad_(need) for x, need in zip(inputs, needed, strict=True)]
        up = upstream.to(dtype).requires_grad_()
        learned = [x for x in leaves if x.requires_grad]
        out = call(*leaves[:3], mask=leaves[3], scale=0.4)
        first = torch.autograd.grad(out, learned, up, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), [up, *learned], allow_unused=True))
    for have, want in zip(*results, strict=True):
        assert (have is None) == (want is None)
        if have is not None:
            near(have / 10, want.float() / 10)  # sums of squares of sums

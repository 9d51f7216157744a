"""Backends on long sequences and on very many rows, forward and backward, against the reference."""

from collections.abc import Callable
from dataclasses import replace as replaced
from functools import cache

import pytest
import torch

from shared.attention import attend
from shared.attention import backends as module
from shared.attention.kernels.reference import attend_reference
from tests.near import near

BACKENDS_HERE = ["eager", "sdpa", "chunked", "auto"]
LONG = [(4096, 4096, 40), (4095, 1023, 160), (1, 4096, 8)]  # queries, keys, channels


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def forward_and_backward(call: Callable, q, k, v, **options):
    """The output, and gradients for a fixed one of the output."""
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    out = call(*leaves, **options)
    return [out.detach(), *torch.autograd.grad(out, leaves, draw(*out.shape, seed=9).to(out))]


def long_inputs(n, m, d, dtype):
    return draw(1, 2, n, d, seed=1, dtype=dtype), *(draw(1, 2, m, d, seed=seed, dtype=dtype) for seed in (2, 3))


@cache
def long_wanted(n, m, d):
    return forward_and_backward(attend_reference, *long_inputs(n, m, d, torch.float64))


@pytest.mark.parametrize("backend", BACKENDS_HERE)
@pytest.mark.parametrize(("n", "m", "d"), LONG)
def test_long_sequences(backend, n, m, d):
    got = forward_and_backward(attend, *long_inputs(n, m, d, torch.float32), backend=backend)
    # gradients of keys and values are sums over queries
    for have, want, terms in zip(got, long_wanted(n, m, d), (1, d, n / m * d, n / m), strict=True):
        size = max(1, terms) ** 0.5
        near(have / size, want.float() / size)


@pytest.mark.parametrize("backend", ["eager", "sdpa", "chunked"])
@pytest.mark.parametrize(("b", "heads"), [(70_000, 1), (35_001, 2), (1, 70_000), (2, 66_000)])
def test_more_than_a_grid_of_batch_and_heads(backend, b, heads, monkeypatch):
    q, k, v = (draw(b, heads, 3, 4, seed=seed) for seed in (1, 2, 3))
    mask = (draw(b, 1, 3, 3, seed=4) if heads < 10 else draw(1, heads, 3, 3, seed=4)) > 0
    seen = []
    line = module.BY_NAME[backend]
    monkeypatch.setattr(module, "EAGER_SCORES", 65_535 * 9)
    counting = lambda q, *rest, **kw: seen.append(q.shape) or line.attend(q, *rest, **kw)  # noqa: E731
    monkeypatch.setitem(module.BY_NAME, backend, replaced(line, attend=counting))
    got = forward_and_backward(attend, q, k, v, mask=mask, backend=backend)
    wanted = forward_and_backward(attend_reference, *(x.double() for x in (q, k, v)), mask=mask)
    for have, want, size in zip(got, wanted, (1, 2, 2, 2), strict=True):  # gradients: sums of products of 4 channels
        near(have / size, want.float() / size)
    assert sum(shape[0] * shape[1] for shape in seen) == b * heads
    assert max(shape[0] * shape[1] for shape in seen) <= 65_535

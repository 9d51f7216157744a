import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.attention import BACKENDS, attend, attend_frames, choose, explain
from shared.attention import dispatch as attend_module
from shared.attention.reference import attend_reference
from shared.errors import InputError
from tests.near import near

FAST = [name for name in BACKENDS if name != "reference"]


def draw(*shape, dtype=torch.float32, seed=0, grad=False):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.to(dtype).requires_grad_(grad)


def by_loops(q, k, v, mask, scale):
    """Equation 1, one query at a time."""
    q, k, v = q.detach(), k.detach(), v.detach()
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b in range(q.shape[0]):
        for head in range(q.shape[1]):
            for i in range(q.shape[2]):
                scores = [scale * float(q[b, head, i] @ key) for key in k[b, head]]
                if mask is not None:
                    row = mask.expand(*q.shape[:3], k.shape[2])[b, head, i]
                    scores = [s if keep else -math.inf for s, keep in zip(scores, row.tolist(), strict=True)]
                weights = [math.exp(s) for s in scores]
                if sum(weights) > 0:
                    out[b, head, i] = sum(w * x for w, x in zip(weights, v[b, head], strict=True)) / sum(weights)
    return out


@pytest.mark.parametrize("masked", [False, True])
def test_the_reference_is_the_equation(masked):
    q, k, v = (
        draw(2, 3, 4, 5, dtype=torch.float64),
        draw(2, 3, 6, 5, dtype=torch.float64),
        draw(2, 3, 6, 7, dtype=torch.float64),
    )
    mask = draw(2, 1, 4, 6, seed=3) > 0 if masked else None
    if masked:
        mask[0, 0, 1] = False  # a query that may look at nothing
    for scale in (None, 0.3):
        near(attend_reference(q, k, v, mask=mask, scale=scale), by_loops(q, k, v, mask, scale or 5**-0.5))


@settings(max_examples=40, deadline=None)
@given(
    b=st.integers(1, 3),
    heads=st.integers(1, 4),
    n=st.integers(1, 70),
    m=st.integers(1, 70),
    d=st.sampled_from([8, 24, 40, 64]),
    mask_kind=st.sampled_from(["none", "boolean", "additive", "per key"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    backend=st.sampled_from([*FAST, "auto", "reference"]),
    strided=st.booleans(),
)
def test_every_backend_equals_the_reference_forward_and_backward(b, heads, n, m, d, mask_kind, dtype, backend, strided):
    def make(length, seed):
        x = draw(b, length, heads, d, dtype=dtype, seed=seed).transpose(1, 2)
        return (x if strided else x.contiguous()).detach().requires_grad_()

    q, k, v, upstream = make(n, 1), make(m, 2), make(m, 3), draw(b, heads, n, d, dtype=dtype, seed=4)
    mask = {
        "none": None,
        "boolean": draw(b, 1, n, m, seed=5) > 0,
        "additive": draw(1, heads, n, m, dtype=dtype, seed=5),
        "per key": draw(b, 1, 1, m, seed=5) > -1,
    }[mask_kind]
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    wanted = attend_reference(*exact, mask=mask)
    got = attend(q, k, v, mask=mask, backend=backend)
    assert got.dtype == dtype
    near(got, wanted.to(dtype), dtype)
    got_grads = torch.autograd.grad(got, (q, k, v), upstream)
    size = d**0.5  # gradients of q and k are differences of sums of d products, each of order one
    for have, want in zip(got_grads, torch.autograd.grad(wanted, exact, upstream.double()), strict=True):
        near(have / size, want.to(dtype) / size, dtype)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("additive", [False, True])
def test_a_query_without_keys_gives_zero_and_no_gradient(backend, additive):
    q, k, v = (draw(1, 2, 3, 8, seed=seed, grad=True) for seed in (1, 2, 3))
    keep = torch.tensor([[True, False, True], [False, False, False], [True, True, True]]).view(1, 1, 3, 3)
    mask = torch.zeros(1, 1, 3, 3).masked_fill(~keep, -torch.inf) if additive else keep
    out = attend(q, k, v, mask=mask, backend=backend)
    assert torch.equal(out[:, :, 1], torch.zeros(1, 2, 8))
    near(out, by_loops(q, k, v, keep, 8**-0.5))
    out.sum().backward()
    assert torch.equal(q.grad[:, :, 1], torch.zeros(1, 2, 8))
    assert all(x.grad.isfinite().all() for x in (q, k, v))


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(("b", "heads"), [(70_000, 1), (35_001, 2), (1, 70_000), (2, 66_000)])
def test_more_than_a_grid_of_batch_and_heads(backend, b, heads, monkeypatch):
    q, k, v = (draw(b, heads, 3, 4, seed=seed) for seed in (1, 2, 3))
    mask = (draw(b, 1, 3, 3, seed=4) if heads < 10 else draw(1, heads, 3, 3, seed=4)) > 0
    seen = []
    kernel = f"attend_{backend}"
    original = getattr(attend_module, kernel)
    monkeypatch.setattr(attend_module, "EAGER_SCORES", 65_535 * 9)
    monkeypatch.setattr(attend_module, kernel, lambda q, *rest, **kw: seen.append(q.shape) or original(q, *rest, **kw))
    near(attend(q, k, v, mask=mask, backend=backend), attend_reference(q, k, v, mask=mask))
    assert sum(shape[0] * shape[1] for shape in seen) == b * heads
    assert max(shape[0] * shape[1] for shape in seen) <= 65_535


def test_chunks_keep_gradients(monkeypatch):
    q, k, v = (draw(5, 3, 4, 8, seed=seed, grad=True) for seed in (1, 2, 3))
    mask = draw(5, 3, 4, 4, seed=4)
    wanted = torch.autograd.grad(attend_reference(q, k, v, mask=mask).square().sum(), (q, k, v))
    for limit in (1, 2, 3, 7, 15):
        monkeypatch.setattr(attend_module, "GRID_LIMIT", limit)
        got = torch.autograd.grad(attend(q, k, v, mask=mask, backend="sdpa").square().sum(), (q, k, v))
        for have, want in zip(got, wanted, strict=True):
            near(have, want)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_frames_attend_over_time_at_each_position(backend):
    q, k, v = draw(2, 5, 6, 3, 8, seed=1), draw(2, 4, 6, 3, 8, seed=2), draw(2, 4, 6, 3, 8, seed=3)
    for mask in (None, draw(2, 3, 5, 4, seed=4) > 0, draw(1, 1, 5, 4, seed=5)):
        got = attend_frames(q, k, v, mask=mask, scale=0.5, backend=backend)
        for s in range(6):
            one = [x[:, :, s].transpose(1, 2) for x in (q, k, v)]  # b heads t d
            near(got[:, :, s].transpose(1, 2), attend_reference(*one, mask=mask, scale=0.5))


def test_auto_takes_the_form_that_is_fast_there():
    assert choose(16, 16) == choose(64, 64) == "eager"
    assert choose(256, 256) == "sdpa"
    assert choose(256, 256, dtype=torch.bfloat16) == "eager"
    assert choose(4096, 4096, dtype=torch.bfloat16) == "sdpa"
    assert choose(16, 16, device="cuda", dtype=torch.float16) == "sdpa"


def test_explain_names_what_auto_runs():
    for queries, dtype in ((16, torch.float32), (4096, torch.float32), (256, torch.bfloat16)):
        told = explain(queries, dtype=dtype)
        assert [line.backend for line in told] == list(BACKENDS)
        assert all(line.usable for line in told)
        taken = [line.backend for line in told if "auto takes it" in line.why]
        assert taken == [choose(queries, queries, dtype=dtype)]
    if not torch.cuda.is_available():
        assert not any(line.usable for line in explain(16, device="cuda"))
    assert "2 launch" in {line.backend: line.why for line in explain(16, batch_heads=70_000)}["sdpa"]


def test_inputs_that_do_not_go_together_are_refused():
    q, k, v = draw(2, 3, 4, 8), draw(2, 3, 5, 8), draw(2, 3, 5, 8)
    wrong = [
        ((q[0], k, v), {}),
        ((q, k, v[:, :, :4]), {}),
        ((q, k[:1], v), {}),
        ((q, k[..., :4], v), {}),
        ((q.half(), k, v), {}),
        ((q, k, v.to("meta")), {}),
        ((q, k, v), {"mask": torch.ones(4, 5, dtype=torch.bool)}),
        ((q, k, v), {"mask": torch.ones(2, 2, 4, 5)}),
        ((q, k, v), {"backend": "flush"}),
    ]
    for arguments, options in wrong:
        with pytest.raises(InputError, match="expected"):
            inspect.unwrap(attend)(*arguments, **options)  # as outside tests, where annotations are not checked
    with pytest.raises(InputError):
        inspect.unwrap(attend_frames)(q, k, v)

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.attention import BACKENDS, Request, attend, attend_frames, choose, explain
from shared.attention import backends as module
from shared.attention.kernels.reference import attend_frames_reference, attend_reference
from shared.errors import InputError
from tests.near import near

HERE = ["reference", "eager", "sdpa", "chunked"]  # what runs on any machine
FRAMES_HERE = [*HERE, "temporal"]


def draw(*shape, dtype=torch.float32, seed=0, grad=False):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.to(dtype).requires_grad_(grad)


def request(queries=16, keys=None, **given):
    shape = {"batch": 1, "heads": 4, "dim": 32, "dim_v": 32, **given}
    return Request(queries=queries, keys=queries if keys is None else keys, **shape)


def unchecked(function):
    """As outside tests, where annotations are not checked."""
    return inspect.unwrap(function)


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


# Most lengths short, some up to 4,096, odd ones as often as even ones; few scores in all, for the sake of time.
LENGTHS = st.one_of(st.integers(1, 40), st.integers(1, 70), st.sampled_from([127, 257, 1023, 4095, 4096]))
MAX_SCORES = 2**18
MASKS = ["none", "boolean", "additive", "per key", "nothing for one"]


@settings(max_examples=60, deadline=None)
@given(
    b=st.integers(1, 3),
    heads=st.integers(1, 16),
    n=LENGTHS,
    m=LENGTHS,
    d=st.sampled_from([8, 13, 24, 40, 64, 80, 160]),
    mask_kind=st.sampled_from(MASKS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    backend=st.sampled_from([*HERE, "auto"]),
    strided=st.booleans(),
)
def test_every_backend_equals_the_reference_forward_and_backward(b, heads, n, m, d, mask_kind, dtype, backend, strided):
    b = max(1, min(b, MAX_SCORES // (n * m)))
    heads = max(1, min(heads, MAX_SCORES // (n * m * b)))
    if n * m > MAX_SCORES:
        n = MAX_SCORES // m

    def make(length, seed):
        x = draw(b, length, heads, d, dtype=dtype, seed=seed).transpose(1, 2)
        return (x if strided else x.contiguous()).detach().requires_grad_()

    q, k, v, upstream = make(n, 1), make(m, 2), make(m, 3), draw(b, heads, n, d, dtype=dtype, seed=4)
    some = draw(b, 1, n, m, seed=5) > 0
    mask = {
        "none": None,
        "boolean": some,
        "additive": draw(1, heads, n, m, dtype=dtype, seed=5),
        "per key": draw(b, 1, 1, m, seed=5) > -1,
        "nothing for one": some & (torch.arange(n) != n // 2).view(1, 1, n, 1),
    }[mask_kind]
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    wanted = attend_reference(*exact, mask=mask)
    got = attend(q, k, v, mask=mask, backend=backend)
    assert got.dtype == dtype
    near(got, wanted.to(dtype), dtype)
    got_grads = torch.autograd.grad(got, (q, k, v), upstream)
    # Gradients are sums over as many terms as there are keys (q) or queries (k, v), of d products of order one.
    sizes = (d**0.5, d**0.5 * max(1, n / m), max(1, n / m) ** 0.5 * 2)
    for have, want, size in zip(got_grads, torch.autograd.grad(wanted, exact, upstream.double()), sizes, strict=True):
        near(have / size, want.to(dtype) / size, dtype)


@settings(max_examples=60, deadline=None)
@given(
    b=st.integers(1, 3),
    t=st.integers(1, 64),
    u=st.integers(1, 64),
    s=st.integers(1, 9),
    heads=st.integers(1, 5),
    d=st.sampled_from([8, 13, 40, 64]),
    e=st.sampled_from([8, 40]),
    mask_kind=st.sampled_from(["none", "boolean", "bias"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    backend=st.sampled_from([*FRAMES_HERE, "auto"]),
    layout=st.sampled_from(["plain", "one projection", "heads first"]),
)
def test_frames_equal_the_reference_forward_and_backward(b, t, u, s, heads, d, e, mask_kind, dtype, backend, layout):
    def make(length, channels, seed):
        if layout == "heads first":
            x = draw(b, heads, s, length, channels, dtype=dtype, seed=seed).permute(0, 3, 2, 1, 4)
        elif layout == "one projection":
            x = draw(b, length, s, 3, heads, channels, dtype=dtype, seed=seed)[:, :, :, seed % 3]
        else:
            x = draw(b, length, s, heads, channels, dtype=dtype, seed=seed)
        return x.detach().requires_grad_()

    q, k, v, upstream = make(t, d, 1), make(u, d, 2), make(u, e, 3), draw(b, t, s, heads, e, dtype=dtype, seed=4)
    mask = {
        "none": None,
        "boolean": (draw(b, 1, t, u, seed=5) > 0) & (torch.arange(t) != 1).view(1, 1, t, 1),
        "bias": draw(1, heads, t, u, seed=5, grad=True),
    }[mask_kind]
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    exact_mask = mask.detach().double().requires_grad_() if mask_kind == "bias" else mask
    learned, exact_learned = ([mask], [exact_mask]) if mask_kind == "bias" else ([], [])
    wanted = attend_frames_reference(*exact, mask=exact_mask)
    got = attend_frames(q, k, v, mask=mask, backend=backend)
    assert got.dtype == dtype
    near(got, wanted.to(dtype), dtype)
    got_grads = torch.autograd.grad(got, [q, k, v, *learned], upstream)
    want_grads = torch.autograd.grad(wanted, exact + exact_learned, upstream.double())
    sizes = (d**0.5, d**0.5 * max(1, t / u), max(1, t / u) ** 0.5 * 2, b * s)
    for have, want, size in zip(got_grads, want_grads, sizes, strict=False):
        near(have / size, want.to(have.dtype) / size, dtype)


@pytest.mark.parametrize("masked", [False, True])
def test_the_reference_over_frames_is_the_reference_at_each_position(masked):
    q, k, v = draw(2, 5, 6, 3, 8, seed=1), draw(2, 4, 6, 3, 8, seed=2), draw(2, 4, 6, 3, 7, seed=3)
    mask = draw(2, 3, 5, 4, seed=4) > 0 if masked else None
    got = attend_frames_reference(q, k, v, mask=mask, scale=0.5)
    for s in range(6):
        one = [x[:, :, s].transpose(1, 2) for x in (q, k, v)]  # b heads t d
        near(got[:, :, s].transpose(1, 2), attend_reference(*one, mask=mask, scale=0.5))


@pytest.mark.parametrize("backend", [*HERE, "auto"])
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


SIZES = st.sampled_from([0, 1, 2, 3])


@given(
    shape=st.tuples(SIZES, SIZES, SIZES, SIZES, st.sampled_from([1, 8]), SIZES, SIZES),
    mask_kind=st.sampled_from(["none", "boolean", "bias"]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    backend=st.sampled_from([*FRAMES_HERE, "auto"]),
    frames=st.booleans(),
)
def test_any_length_may_be_zero(shape, mask_kind, dtype, backend, frames):
    b, heads, n, m, d, e, s = shape
    if not frames and backend == "temporal":
        backend = "auto"

    def make(length, channels, seed):
        size = (b, length, s, heads, channels) if frames else (b, heads, length, channels)
        return draw(*size, dtype=dtype, seed=seed, grad=True)

    leaves = [make(n, d, 1), make(m, d, 2), make(m, e, 3)]
    mask = None if mask_kind == "none" else draw(b, 1, n, m, seed=4)
    mask = mask > 0 if mask_kind == "boolean" else mask
    if mask_kind == "bias":
        leaves.append(mask.requires_grad_())
    call, reference = (attend_frames, attend_frames_reference) if frames else (attend, attend_reference)
    out = call(*leaves[:3], mask=mask, backend=backend)
    exact = [x.detach().double().requires_grad_() for x in leaves]
    wanted = reference(*exact[:3], mask=exact[3] if mask_kind == "bias" else mask)
    assert out.dtype == dtype
    near(out, wanted.to(dtype), dtype)
    if not m:
        assert not out.any()
    for have, want in zip(
        torch.autograd.grad(out.sum(), leaves), torch.autograd.grad(wanted.sum(), exact, allow_unused=True), strict=True
    ):
        near(have, (torch.zeros_like(have) if want is None else want).to(have.dtype), dtype)


ADDED = {"-1e4": -1e4, "the least of half": -65504.0, "the least of all": torch.finfo(torch.float32).min}


@pytest.mark.parametrize("backend", [*FRAMES_HERE, "auto"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("added", ADDED)
@pytest.mark.parametrize("rows", ["whole", "part", "mixed"])
def test_a_finite_number_over_a_whole_row_of_a_mask_changes_nothing(backend, dtype, added, rows):
    """diffusers masks with -10,000, transformers with the least number of a dtype: both in half precision."""
    q, k, v = (draw(2, 6, 3, 2, 16, dtype=dtype, seed=seed) for seed in (1, 2, 3))
    exact = [x.double() for x in (q, k, v)]
    number = max(ADDED[added], torch.finfo(dtype).min)
    keep = torch.ones(2, 1, 6, 6, dtype=torch.bool)
    if rows != "whole":
        keep = draw(2, 1, 6, 6, seed=4) > 0
        keep[0, 0, 1], keep[1, 0, 2] = True, rows == "part"
    mask = torch.zeros(2, 1, 6, 6, dtype=dtype).masked_fill(keep if rows == "whole" else ~keep, number)
    # a softmax is the same with any one number added to its row
    as_boolean = torch.ones_like(keep) if rows == "whole" else keep | ~keep.any(-1, keepdim=True)
    wanted = attend_frames_reference(*exact, mask=as_boolean).to(dtype)
    near(attend_frames_reference(q, k, v, mask=mask), wanted, dtype)
    near(attend_frames(q, k, v, mask=mask, backend=backend), wanted, dtype)
    if backend != "temporal":
        got = attend(*(x[:, :, 0].transpose(1, 2) for x in (q, k, v)), mask=mask, backend=backend)
        near(got, wanted[:, :, 0].transpose(1, 2), dtype)


@pytest.mark.parametrize("backend", [*FRAMES_HERE, "auto"])
@pytest.mark.parametrize("masked", [False, True])
def test_scores_beyond_half_precision_are_no_fault(backend, masked):
    q, k, v = (draw(1, 5, 2, 2, 64, dtype=torch.float16, seed=seed) for seed in (1, 2, 3))
    q, k = q * 300, k * 300
    mask = draw(1, 1, 5, 5, seed=4) > -1 if masked else None
    exact = [x.detach().double() for x in (q, k, v)]
    assert (exact[0][0, :, 0, 0] @ exact[1][0, :, 0, 0].T).abs().max() / 8 > 65504
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    got = attend_frames(*leaves, mask=mask, backend=backend)
    near(got, attend_frames_reference(*exact, mask=mask).half())
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(got.sum(), leaves))


def test_heads_without_channels_are_refused():
    with pytest.raises(InputError, match="one channel or more"):
        attend(draw(1, 1, 2, 0), draw(1, 1, 2, 0), draw(1, 1, 2, 3))


@pytest.mark.parametrize("backend", FRAMES_HERE)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["q", "k", "v"])
def test_what_is_not_finite_stays_in_the_rows_that_it_reaches(backend, bad, where):
    tensors = {name: draw(2, 5, 3, 2, 8, seed=i) for i, name in enumerate("qkv")}
    clean = attend_frames(*tensors.values(), backend="reference")
    tensors[where][1, 2, 0, 1, 3] = bad  # sample 1, frame 2, position 0, head 1
    out = attend_frames(*tensors.values(), backend=backend)
    spoilt = ~out.isfinite()
    touched = torch.zeros_like(spoilt)
    touched[1, 2 if where == "q" else slice(None), 0, 1] = True
    assert not (spoilt & ~touched).any()
    near(out[~touched], clean[~touched])
    if math.isnan(bad):
        hit = out[1, :, 0, 1]
        assert (hit[..., 3] if where == "v" else hit[2] if where == "q" else hit).isnan().all()
    elif where == "v":
        assert (out[1, :, 0, 1, 3] == math.inf).all()


def test_chunks_keep_gradients(monkeypatch):
    q, k, v = (draw(5, 3, 4, 8, seed=seed, grad=True) for seed in (1, 2, 3))
    mask = draw(5, 3, 4, 4, seed=4)
    wanted = torch.autograd.grad(attend_reference(q, k, v, mask=mask).square().sum(), (q, k, v))
    for limit in (1, 2, 3, 7, 15):
        monkeypatch.setattr(module, "GRID_LIMIT", limit)
        got = torch.autograd.grad(attend(q, k, v, mask=mask, backend="sdpa").square().sum(), (q, k, v))
        for have, want in zip(got, wanted, strict=True):
            near(have, want)


def test_auto_takes_the_form_that_is_fast_there():
    half = {"dtype": torch.bfloat16}
    assert choose(request(16)) == choose(request(64)) == "eager"
    assert choose(request(256)) == "sdpa"
    assert choose(request(256, **half)) == "eager"
    assert choose(request(4096, **half)) == "sdpa"
    assert choose(request(16, positions=256)) == "temporal"
    # torch has no fused kernel for a learned mask, nor for values of another width: bounded memory, then
    assert choose(request(4096, heads=16, mask=True, mask_gradient=True)) == "chunked"
    assert choose(request(4096, heads=16, dim_v=16)) == "chunked"


def test_a_backend_that_cannot_run_is_an_error_and_says_why():
    q = draw(1, 2, 3, 8)
    for backend, why in (("temporal", "frames"), ("xformers", r"install|CUDA"), ("flash", r"install|CUDA")):
        with pytest.raises(InputError, match=why):
            attend(q, q, q, backend=backend)
    frames = draw(1, 4, 3, 2, 8)
    for backend in ("xformers", "flash"):
        with pytest.raises(InputError, match=r"install|CUDA"):
            attend_frames(frames, frames, frames, backend=backend)


def test_limits_of_the_temporal_kernel_on_a_gpu(monkeypatch):
    monkeypatch.setattr("shared.attention.kernels.temporal.installed", lambda name: True)
    why_not = module.BY_NAME["temporal"].why_not
    on_gpu = {"device": torch.device("cuda"), "dtype": torch.float16, "positions": 9}
    assert why_not(request(64, dim=256, **on_gpu)) is None
    assert "64 frames" in why_not(request(65, **on_gpu))
    assert "64 frames" in why_not(request(16, 65, **on_gpu))
    assert "256 channels" in why_not(request(16, dim=257, **on_gpu))
    assert "float64" in why_not(request(16, **{**on_gpu, "dtype": torch.float64}))
    monkeypatch.setattr("shared.attention.kernels.temporal.installed", lambda name: False)
    assert "not installed" in why_not(request(16, **on_gpu))


def test_explain_names_what_auto_runs():
    for each in (request(16), request(4096), request(256, dtype=torch.bfloat16), request(16, positions=64)):
        told = explain(each)
        assert [line.backend for line in told] == list(BACKENDS)
        assert [line.backend for line in told if line.chosen] == [choose(each)]
        assert all(line.usable for line in told if line.backend in HERE)
        assert all(line.flops == 2 * 64 * 4 * each.scores // 4 for line in told)  # 2 (dim + dim_v) a score
        assert all("*" in line.line() for line in told if line.chosen)
    if not torch.cuda.is_available():
        assert not any(line.usable or line.chosen for line in explain(request(16, device=torch.device("cuda"))))


def test_explained_bytes_order_backends_as_their_memory_does():
    """16 frames of 4,096 tokens: what holds all scores, what holds a part of them, what holds none."""
    held = {line.backend: line.bytes for line in explain(request(4096, batch=16, heads=8, dim=40, dim_v=40))}
    out = 16 * 8 * 4096 * 40 * 4
    assert held["reference"] > 4 * 16 * 8 * 4096**2 * 4
    assert held["sdpa"] < 1.05 * out
    assert out < held["chunked"] < 2 * out < held["eager"] < held["reference"] / 10


def test_inputs_that_do_not_go_together_are_refused():
    q, k, v = draw(2, 3, 4, 8), draw(2, 3, 5, 8), draw(2, 3, 5, 8)
    wrong = [
        ((q[0], k, v), {}),
        ((q, k, v[:, :, :4]), {}),
        ((q, k[:1], v), {}),
        ((q, k[..., :4], v), {}),
        ((q.half(), k, v), {}),
        ((q.int(), k.int(), v.int()), {}),
        ((q, k, v.to("meta")), {}),
        ((q, k, v), {"mask": torch.ones(4, 5, dtype=torch.bool)}),
        ((q, k, v), {"mask": torch.ones(2, 2, 4, 5)}),
        ((q, k, v), {"mask": torch.ones(2, 3, 4, 5, dtype=torch.int64)}),
        ((q, k, v), {"mask": torch.ones(2, 3, 4, 5, device="meta")}),
        ((q, k, v), {"backend": "flush"}),
    ]
    for arguments, options in wrong:
        with pytest.raises(InputError, match="expected"):
            unchecked(attend)(*arguments, **options)
    with pytest.raises(InputError):
        unchecked(attend_frames)(q, k, v)
    with pytest.raises(InputError):
        unchecked(attend)(*(draw(1, 2, 3, 4, 5) for _ in range(3)))

"""The Triton kernel against the reference: on a CUDA device where there is one, else in Triton's interpreter.

And its register use on three generations of GPUs, for which no device is needed.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.attention_compile import DTYPES, SHAPES, compile_all
from shared.attention.kernels import temporal
from shared.attention.kernels.reference import attend_frames_reference
from tests.near import near

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Triton is made for Linux only"),
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None,
        reason="Triton is not installed: `make test` does, or pip install -e '.[kernels]'",
    ),
]

FILE = Path(temporal.__file__).with_name("temporal_triton.py")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def attend_frames_triton():
    """From the file, past the checks of annotations that tests put around functions: Triton reads their source.

    tests/conftest.py sets TRITON_INTERPRET where there is no device.
    """
    assert (os.environ.get("TRITON_INTERPRET") == "1") == (DEVICE == "cpu")
    spec = importlib.util.spec_from_file_location("temporal_triton_unchecked", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.attend_frames_triton


def draw(*shape, dtype=torch.float32, seed=0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.to(dtype).to(DEVICE)


CASES = [
    # b, t, u, s, heads, d, e, dtype, mask
    (1, 4, 4, 3, 2, 8, 8, torch.float32, None),
    (2, 16, 16, 5, 3, 40, 40, torch.float32, None),
    (2, 16, 16, 5, 3, 40, 40, torch.float16, None),
    (1, 2, 2, 70, 2, 16, 16, torch.float16, None),
    (2, 5, 7, 3, 2, 33, 20, torch.float32, "boolean"),
    (2, 16, 16, 3, 2, 40, 40, torch.float16, "bias of heads"),
    (2, 8, 8, 3, 2, 16, 16, torch.float32, "bias of clips"),
    (1, 33, 64, 2, 1, 80, 80, torch.float32, None),
    (1, 64, 64, 1, 2, 160, 160, torch.float16, "boolean"),
    (1, 8, 8, 2, 1, 256, 256, torch.float32, None),
]


@pytest.mark.parametrize(("b", "t", "u", "s", "heads", "d", "e", "dtype", "mask"), CASES)
@pytest.mark.parametrize("layout", ["plain", "one projection"])
def test_forward_and_gradients(attend_frames_triton, b, t, u, s, heads, d, e, dtype, mask, layout):
    def make(length, channels, seed):
        if layout == "plain":
            return draw(b, length, s, heads, channels, dtype=dtype, seed=seed).requires_grad_()
        return draw(b, length, s, 3, heads, channels, dtype=dtype, seed=seed)[:, :, :, 1].requires_grad_()

    q, k, v, upstream = make(t, d, 1), make(u, d, 2), make(u, e, 3), draw(b, t, s, heads, e, dtype=dtype, seed=4)
    bias, learned = None, []
    if mask == "boolean":
        bias = (draw(1, 1, t, u, seed=5) > 0) & (torch.arange(t, device=DEVICE) != 1).view(1, 1, t, 1)
    elif mask is not None:
        bias = draw(*((1, heads) if "heads" in mask else (b, 1)), t, u, seed=5).requires_grad_()
        learned = [bias]
    exact = [x.detach().double().requires_grad_() for x in (q, k, v, *learned)]
    wanted = attend_frames_reference(*exact[:3], mask=exact[3] if learned else bias)
    got = attend_frames_triton(q, k, v, mask=bias)
    assert got.dtype == dtype
    near(got, wanted.to(dtype), dtype)
    got_grads = torch.autograd.grad(got, [q, k, v, *learned], upstream)
    want_grads = torch.autograd.grad(wanted, exact, upstream.double())
    for have, want, size in zip(got_grads, want_grads, (d**0.5, d**0.5, 2, b * s * heads), strict=False):
        near(have / size, want.to(have.dtype) / size, dtype)


def test_what_is_not_finite_stays_in_its_problem(attend_frames_triton):
    q, k, v = (draw(1, 4, 3, 2, 16, seed=seed) for seed in (1, 2, 3))
    clean = attend_frames_triton(q, k, v)
    k[0, 1, 1, 0, 0] = torch.nan
    out = attend_frames_triton(q, k, v)
    hit = torch.zeros_like(out, dtype=torch.bool)
    hit[:, :, 1, 0] = True
    assert out[hit].isnan().all()
    near(out[~hit], clean[~hit])


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_no_kernel_spills_registers(capability):
    """Without and with a device alike. Programs of smaller shapes hold less; `python -m benchmarks.attention_compile`
    compiles the whole matrix."""
    compiled = list(compile_all([capability], shapes=[max(SHAPES)]))
    assert len(compiled) == 2 * len(DTYPES)
    assert [line for line in compiled if line.spills] == []


@pytest.mark.parametrize("number", [-1e4, torch.finfo(torch.float32).min])
def test_a_finite_number_over_a_whole_row_of_a_mask_changes_nothing(attend_frames_triton, number):
    q, k, v = (draw(1, 4, 2, 2, 16, dtype=torch.float16, seed=seed) for seed in (1, 2, 3))
    mask = torch.zeros(1, 1, 4, 4, device=DEVICE)
    mask[0, 0, 1] = number
    near(attend_frames_triton(q, k, v, mask=mask), attend_frames_reference(q, k, v))


@pytest.mark.parametrize(("frames", "keys", "dim_v"), [(0, 3, 8), (3, 0, 8), (3, 3, 0)])
def test_gradients_are_zero_where_nothing_is_computed(attend_frames_triton, frames, keys, dim_v):
    shapes = [(1, frames, 2, 2, 8), (1, keys, 2, 2, 8), (1, keys, 2, 2, dim_v)]
    leaves = [draw(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]
    out = attend_frames_triton(*leaves)
    assert not out.any()
    assert not any(gradient.any() for gradient in torch.autograd.grad(out.sum(), leaves))


def test_second_derivatives_are_the_references(attend_frames_triton):
    results = []
    for call in (attend_frames_triton, attend_frames_reference):
        leaves = [draw(1, 3, 2, 2, 8, seed=seed).requires_grad_() for seed in (1, 2, 3)]
        first = torch.autograd.grad(call(*leaves).square().sum(), leaves, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))
    for have, want in zip(*results, strict=True):
        near(have / 10, want / 10)

"""torch's attention call, answered by `attend`: torch's own answers it too."""

import pytest
import torch
from torch.nn import functional

from shared.attention.routing.route import Route
from shared.attention.routing.torch_call import ThroughAttend
from shared.errors import InputError, ModelError
from tests.near import near


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


KEEP = torch.arange(6)[None] <= torch.arange(5)[:, None]
CASES = {
    "plain": {},
    "scaled": {"scale": 0.3},
    "causal": {"is_causal": True},
    "boolean mask": {"attn_mask": KEEP},
    "mask to add": {"attn_mask": draw(2, 1, 1, 6, seed=4)},
    "mask of heads": {"attn_mask": draw(4, 5, 6, seed=4)},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_answers_are_torchs(case, dtype):
    q, k, v = draw(2, 4, 5, 8, seed=1), draw(2, 4, 6, 8, seed=2), draw(2, 4, 6, 3, seed=3)
    options = {
        name: value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in CASES[case].items()
    }
    route = Route()
    results = []
    for inside in (False, True):
        leaves = [x.to(dtype).requires_grad_() for x in (q, k, v)]
        if inside:
            with ThroughAttend(route):
                out = functional.scaled_dot_product_attention(*leaves, **options)
        else:
            out = functional.scaled_dot_product_attention(*leaves, **options)
        results.append([out, *torch.autograd.grad(out.sum(), leaves)])
    for have, want in zip(*reversed(results), strict=True):
        near(have, want, dtype)
    assert route.ran.total() == 1


def test_shared_keys_and_fewer_axes():
    shapes = [
        [(2, 6, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8), {"enable_gqa": True}],
        [(2, 5, 8), (2, 7, 8), (2, 7, 8), {"attn_mask": draw(2, 5, 7) > 0}],
        [(5, 8), (7, 8), (7, 8), {}],
        [(1, 4, 5, 8), (3, 4, 7, 8), (3, 4, 7, 8), {}],
    ]
    for *sizes, options in shapes:
        q, k, v = (draw(*size, seed=seed) for seed, size in enumerate(sizes))
        wanted = functional.scaled_dot_product_attention(q, k, v, **options)
        with ThroughAttend(Route()):
            got = functional.scaled_dot_product_attention(q, k, v, **options)
        near(got, wanted)


@pytest.mark.parametrize("dtypes", [(torch.float32,) * 3, (torch.float32, torch.float32, torch.bfloat16)])
def test_autocast_takes_any_mix_of_precisions(dtypes):
    q, k, v = (draw(2, 4, 5, 8, seed=seed, dtype=dtype) for seed, dtype in enumerate(dtypes))
    with torch.autocast("cpu", torch.bfloat16):
        wanted = functional.scaled_dot_product_attention(q, k, v)
        with ThroughAttend(Route()):
            got = functional.scaled_dot_product_attention(q, k, v)
    near(got.float(), wanted.float(), torch.bfloat16)
    with ThroughAttend(Route()), pytest.raises(InputError, match="dtype"):
        functional.scaled_dot_product_attention(q, k, v.double())


def test_dropout_is_refused_and_other_calls_are_torchs():
    q = draw(2, 4, 5, 8)
    with ThroughAttend(Route()):
        assert torch.equal(functional.softmax(q, dim=-1), torch.softmax(q, -1))
        with pytest.raises(ModelError, match=r"dropout.*0\.1"):
            functional.scaled_dot_product_attention(q, q, q, dropout_p=0.1)

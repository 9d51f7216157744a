"""Muon against its definition, in both memory formats, and beside AdamW as one optimiser."""

import copy

import pytest
import torch
from torch import nn

from shared.training.optimizers import MuonAndAdamW, as_matrix, build_optimizer
from shared.training.recipe import StageRecipe

RATE = 0.01
FORMATS = [torch.contiguous_format, torch.channels_last]


def group(*weights, matrices=True, **changes):
    return {"params": list(weights), "lr": RATE, "weight_decay": 0.0, "matrices": matrices, **changes}


def drawn(*shape, seed=0, memory_format=torch.contiguous_format):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.to(memory_format=memory_format) if x.ndim == 4 else x


@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_first_step_goes_along_the_nearest_semi_orthogonal_matrix(memory_format):
    """From no momentum, along U V^T of the gradient; root mean square 0.2 of the rate (Liu et al. 2025, equation 4)."""
    before = drawn(6, 5, 3, 1, memory_format=memory_format)
    weight = nn.Parameter(before.clone(memory_format=torch.preserve_format))
    weight.grad = drawn(6, 5, 3, 1, seed=1, memory_format=memory_format)
    u, _, v = torch.linalg.svd(weight.grad.flatten(1), full_matrices=False)
    MuonAndAdamW([group(weight)]).step()
    step = (before - weight.detach()).flatten(1)
    wanted = 0.2 * RATE * 15**0.5 * u @ v
    # Five Newton-Schulz steps in bfloat16 bring singular values to about 1, between 0.7 and 1.2.
    assert torch.nn.functional.cosine_similarity(step.flatten(), wanted.flatten(), dim=0) > 0.97
    assert 0.6 < step.norm() / wanted.norm() < 1.3


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("grad_format", FORMATS)
def test_memory_formats_do_not_change_the_step(weight_format, grad_format):
    weight = nn.Parameter(drawn(6, 5, 3, 1, memory_format=weight_format))
    weight.grad = drawn(6, 5, 3, 1, seed=1, memory_format=grad_format)
    plain = nn.Parameter(drawn(6, 5, 3, 1))
    plain.grad = drawn(6, 5, 3, 1, seed=1)
    for one in (weight, plain):
        MuonAndAdamW([group(one)]).step()
    torch.testing.assert_close(weight.detach(), plain.detach(), rtol=0, atol=2e-4)  # bfloat16, summed in another order
    assert weight.is_contiguous(memory_format=weight_format)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_matrix_shares_the_numbers_of_its_weight(memory_format):
    weight = drawn(4, 3, 3, 2, memory_format=memory_format)
    as_matrix(weight).zero_()
    assert not weight.any()


def test_vectors_and_what_is_no_matrix_go_by_adamw():
    ours = [nn.Parameter(drawn(*shape, seed=i)) for i, shape in enumerate([(5,), (4, 3), (2, 2)])]
    theirs = copy.deepcopy(ours)
    settings = {"betas": (0.9, 0.95), "eps": 1e-12}
    both = MuonAndAdamW([group(ours[0], ours[2]), group(ours[1], matrices=False)], **settings)
    alone = torch.optim.AdamW([theirs[0], theirs[1]], lr=RATE, weight_decay=0.0, **settings)
    for step in range(3):
        for i, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
            mine.grad = drawn(*mine.shape, seed=10 * step + i)
            its.grad = mine.grad.clone()
        both.step()
        alone.step()
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert not torch.equal(ours[2], theirs[2])
    both.zero_grad()
    assert all(weight.grad is None for weight in ours)


def test_learning_rates_of_all_groups_can_be_set():
    weights = [nn.Parameter(drawn(4, 3)), nn.Parameter(drawn(4))]
    optimizer = MuonAndAdamW([group(*weights)])
    before = [weight.detach().clone() for weight in weights]
    for settings in optimizer.param_groups:
        settings["lr"] = 0.0
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))


def test_a_restored_state_goes_on_the_same():
    def run(optimizer, weights, steps):
        for step in steps:
            for i, weight in enumerate(weights):
                weight.grad = drawn(*weight.shape, seed=10 * step + i)
            optimizer.step()

    weights = [nn.Parameter(drawn(6, 5, 3, 1)), nn.Parameter(drawn(4))]
    optimizer = MuonAndAdamW([group(*weights)])
    run(optimizer, weights, range(2))
    again = copy.deepcopy(weights)
    restored = MuonAndAdamW([group(*again)])
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(optimizer, weights, range(2, 4))
    run(restored, again, range(2, 4))
    assert all(torch.equal(one, other) for one, other in zip(weights, again, strict=True))


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("muon", MuonAndAdamW)])
def test_the_recipe_says_which(name, kind):
    assert type(build_optimizer(StageRecipe(optimizer=name), [group(nn.Parameter(drawn(4, 3)))])) is kind

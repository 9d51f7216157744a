import inspect

import numpy as np
import pytest
import torch
from scipy import stats

from shared.errors import InputError
from shared.rng import generator, normal


def test_same_seed_and_index_give_the_same_numbers_in_any_order() -> None:
    forward = [normal((3, 4), 7, index) for index in range(4)]
    backward = [normal((3, 4), 7, index) for index in reversed(range(4))]
    assert torch.equal(torch.stack(forward), torch.stack(backward[::-1]))


def test_the_first_numbers_never_change() -> None:
    """A record made today is rerun by a later version: these streams are part of the file format."""
    assert generator(0).initial_seed() == int(np.random.SeedSequence(0).generate_state(1, np.uint64)[0])
    child = np.random.SeedSequence(5).spawn(3)[2]  # numpy's own word for "(5, index 2)"
    assert generator(5, 2).initial_seed() == int(child.generate_state(1, np.uint64)[0])


def test_every_path_is_its_own_stream() -> None:
    paths = [(1,), (1, 0), (1, 1), (1, 2), (12,), (1, 0, 0), (2, 1), (2**70,), (2**70, 1)]
    assert len({generator(*path).initial_seed() for path in paths}) == len(paths)


def test_streams_are_independent() -> None:
    """Neighbouring seeds and indices: no correlation beyond chance in 2,000 numbers each (5 standard errors)."""
    draws = torch.stack([normal((2000,), seed, index) for seed in range(4) for index in range(4)])
    correlation = torch.corrcoef(draws) - torch.eye(16)
    assert correlation.abs().max() < 5 / 2000**0.5
    assert stats.kstest(draws.flatten().numpy(), "norm").pvalue > 1e-3


def test_normal_is_float32_on_the_cpu() -> None:
    noise = normal((2, 3), 1)
    assert (noise.dtype, noise.device.type) == (torch.float32, "cpu")


@pytest.mark.parametrize("seed", [-1, 1.5, "3", True, None])
def test_a_wrong_seed_is_the_users_error(seed: object) -> None:
    with pytest.raises(InputError, match="seed: expected an integer, 0 or more"):
        inspect.unwrap(generator)(seed)  # without the type checks of the test run
    with pytest.raises(InputError, match="seed: expected an integer, 0 or more"):
        inspect.unwrap(generator)(0, 1, seed)

"""Random numbers that depend on (seed, index) alone.

One generator for each sample, window or view, so that a result does not depend on batch size, position in a batch or
worker. `index` is the path to the sample: `generator(seed, 3)` is sample 3, `generator(seed, 3, 1)` its second window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shared.errors import InputError


def generator(seed: int | np.integer, *index: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator for `(seed, *index)`; different pairs give independent streams.

    `seed` and every index are integers >= 0 of any size. Raises InputError for anything else.
    """
    for value in (seed, *index):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise InputError("seed", expected="an integer, 0 or more", got=value)
    # spawn_key keeps (1, 2) and (12,) apart, which adding or hashing seeds together would not promise.
    state = np.random.SeedSequence(int(seed), spawn_key=tuple(int(i) for i in index)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]))


def normal(shape: Sequence[int], seed: int, *index: int) -> Tensor:
    """Standard normal noise of `shape`, float32 on the CPU, drawn from `generator(seed, *index)`."""
    return torch.randn(tuple(shape), generator=generator(seed, *index), dtype=torch.float32)

"""Several processes that train one network together (data parallelism: Li et al. 2020, "PyTorch Distributed").

Each has a rank, sees batches of its own, and takes the same steps: down gradients that are averaged over all of them.
`accelerate launch -m lab.main train ...` or `torchrun -m lab.main train ...` starts them; without that there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch import distributed as dist


def started() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join(device: str) -> str:
    """Meet the others; returns the device of this process's own, of the kind of `device`."""
    from accelerate import PartialState

    return str(PartialState(cpu=device == "cpu").device)


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0, which alone writes and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Each tensor becomes its mean over all processes, which must give the same ones in the same order."""
    if count() == 1:
        return
    given = list(tensors)
    flat = torch.cat([tensor.flatten().float() for tensor in given])
    dist.all_reduce(flat)
    for tensor, mean in zip(given, (flat / count()).split([t.numel() for t in given]), strict=True):
        tensor.copy_(mean.view_as(tensor))


@contextmanager
def first() -> Iterator[None]:
    """Inside, rank 0 goes before the others: what it writes they find."""
    if rank():
        dist.barrier()
    yield
    if count() > 1 and not rank():
        dist.barrier()

"""Several processes that train one network together (data parallelism: Li et al. 2020, "PyTorch Distributed").

Each has a rank, sees batches of its own, and takes the same steps: down gradients that are averaged over all of them.
`accelerate launch -m lab.main train ...` or `torchrun -m lab.main train ...` starts them; without that there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import distributed as dist
from torch import nn


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
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Each gradient becomes its mean over all processes; one that a process has not counts as 0, unless none has it."""
    if count() == 1:
        return
    device = parameters[0].device
    had = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
    dist.all_reduce(had)
    used = [p for p, anywhere in zip(parameters, had.tolist(), strict=True) if anywhere]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
    flat = torch.cat([gradient.flatten().float() for gradient in gradients])
    dist.all_reduce(flat)
    means = (flat / count()).split([p.numel() for p in used])
    for parameter, mean in zip(used, means, strict=True):
        parameter.grad = mean.view_as(parameter).to(parameter.dtype)


@contextmanager
def first() -> Iterator[None]:
    """Inside, rank 0 goes before the others: what it writes they find."""
    if rank():
        dist.barrier()
    try:
        yield
    finally:  # the others do not wait for one that failed
        if count() > 1 and not rank():
            dist.barrier()

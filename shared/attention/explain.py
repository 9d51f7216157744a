"""What each backend would do with a request: whether it can run, what it costs, and which one "auto" takes."""

from __future__ import annotations

from typing import NamedTuple

import torch

from shared.attention.backends import ALL
from shared.attention.dispatch import choose
from shared.attention.request import Request


class Explanation(NamedTuple):
    """usable: whether it can run. why: what it is, or why it cannot run. chosen: whether "auto" takes it.

    bytes: what the forward pass holds beside q, k and v, its output included. flops: of its two products.
    """

    backend: str
    usable: bool
    why: str
    bytes: int
    flops: int
    chosen: bool

    def line(self) -> str:
        """For people: "* sdpa  33.6 MB  8.6 GFLOP  ..."; the star marks the chosen one."""
        cost = f"{self.bytes / 1e6:10,.1f} MB {self.flops / 1e9:9,.2f} GFLOP" if self.usable else "-".rjust(29)
        return f"{'*' if self.chosen else ' '} {self.backend:<10}{cost}  {self.why}"


def explain(request: Request) -> list[Explanation]:
    """One explanation a backend, in the order of BACKENDS."""
    if request.device.type == "cuda" and not torch.cuda.is_available():
        return [
            Explanation(b.name, False, "this torch sees no CUDA device", b.bytes(request), request.flops, False)
            for b in ALL
        ]
    chosen = choose(request)
    told = []
    for backend in ALL:
        why_not = backend.why_not(request)
        why = backend.what if why_not is None else why_not
        told.append(
            Explanation(
                backend.name, why_not is None, why, backend.bytes(request), request.flops, backend.name == chosen
            )
        )
    return told

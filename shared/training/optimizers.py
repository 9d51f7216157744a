"""Which optimiser takes which weights: AdamW for all, or Muon for matrices and AdamW for the rest.

Muon (Jordan et al. 2024) steps along the nearest semi-orthogonal matrix to the momentum. A convolution's weight counts
as the matrix "out (in kernel)". Steps are scaled to AdamW's usual size (Liu et al. 2025, equation 4), so that both take
the same learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from shared.training.recipe import StageRecipe

MUON_MOMENTUM = 0.95


class Group(TypedDict, total=False):
    """Weights that share a learning rate. matrices: whether Muon may take those of two axes or more; not embeddings."""

    params: Sequence[nn.Parameter]
    lr: float
    weight_decay: float
    matrices: bool


class MuonAndAdamW:
    """The two as one: groups, gradients, steps and state. adamw: further settings of AdamW."""

    def __init__(self, groups: Iterable[Group], **adamw: Any) -> None:
        self._weights: list[tuple[nn.Parameter, nn.Parameter]] = []  # trained, and the matrix that shares its numbers
        matrices: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for group in groups:
            settings = {"lr": group["lr"], "weight_decay": group["weight_decay"]}
            taken = [p for p in group["params"] if p.ndim >= 2] if group.get("matrices") else []
            left = [p for p in group["params"] if not any(p is one for one in taken)]
            seen = [(p, nn.Parameter(as_matrix(p.detach()))) for p in taken]
            self._weights += seen
            matrices += [{"params": [matrix for _, matrix in seen], **settings}] if taken else []
            others += [{"params": left, **settings}] if left else []
        self._parts: dict[str, torch.optim.Optimizer] = {}
        if matrices:
            self._parts["muon"] = torch.optim.Muon(matrices, momentum=MUON_MOMENTUM, adjust_lr_fn="match_rms_adamw")
        if others:
            self._parts["adamw"] = torch.optim.AdamW(others, **adamw)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts.values() for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self._parts.values():
            part.zero_grad(set_to_none)
        for weight, _ in self._weights:
            weight.grad = None

    def step(self) -> None:
        for weight, matrix in self._weights:
            matrix.grad = None if weight.grad is None else _in_order(weight.grad, weight).reshape(matrix.shape)
        for part in self._parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts.items():
            part.load_state_dict(state[name])


def build_optimizer(recipe: StageRecipe, groups: Sequence[Group], **adamw: Any) -> torch.optim.AdamW | MuonAndAdamW:
    """The recipe's optimiser for `groups`. adamw: further settings of AdamW."""
    if recipe.optimizer == "muon":
        return MuonAndAdamW(groups, **adamw)
    plain = [{name: value for name, value in group.items() if name != "matrices"} for group in groups]
    return torch.optim.AdamW(plain, **adamw)


def as_matrix(weight: Tensor) -> Tensor:
    """A view "out rest" of a weight, whose storage it shares, in either memory format."""
    return _in_order(weight, weight).view(len(weight), -1)


def _in_order(x: Tensor, weight: Tensor) -> Tensor:
    """x with its axes in the order in which `weight` lies in memory."""
    channels_last = weight.ndim == 4 and not weight.is_contiguous()
    return x.permute(0, 2, 3, 1) if channels_last else x

"""Weights from safetensors files, strictly: every name and shape of the network must be there, every number finite.

Names and shapes are compared with the files' headers before a tensor is read, so a wrong file costs nothing.
Pickled weights can run code when opened; they are never opened here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor, nn

from shared.compute.torch_internals import detect_fake_mode, without_modes
from shared.errors import ModelError
from shared.models.weight_files import read_header, weight_files

# Names that older releases of diffusers wrote in the attention of autoencoders.
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# Buffers that older releases of transformers wrote beside the weights.
NO_WEIGHT = re.compile(r"(^|\.)position_ids$")

N = TypeVar("N", bound=nn.Module)


def load_network(build: Callable[[], N], folder: Path, *, device: str | torch.device, dtype: torch.dtype) -> N:
    """The network that `build` makes, with the weights in `folder`; in eval mode, its weights frozen.

    Raises ModelError, naming the folder: no or pickled weights, a file that is cut short, tensors that are missing,
    left over, of another shape, or not finite.
    """
    with init_empty_weights(include_buffers=False):
        network = build()
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    places: dict[str, tuple[Path, str]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(folder):
        for stored, shape in read_header(file).items():
            name = _name_in(stored, wanted)
            if not NO_WEIGHT.search(name):
                places[name], shapes[name] = (file, stored), shape
    compare(wanted, shapes, folder)
    tensors = {}
    for file in sorted({file for file, _ in places.values()}):
        with safe_open(file, framework="pt") as opened:
            for name, (place, stored) in places.items():
                if place == file:
                    tensors[name] = _stored(opened, stored, wanted[name])
    if detect_fake_mode() is None:  # else there are no numbers
        check_finite(tensors, folder)
    kept = {name: tensor.to(device=device, dtype=_kept_dtype(tensor, dtype)) for name, tensor in tensors.items()}
    network.load_state_dict(kept, strict=True, assign=True)
    return network.to(device).requires_grad_(False).eval()


def compare(wanted: dict[str, tuple[int, ...]], got: dict[str, tuple[int, ...]], where: Path) -> None:
    """Raises ModelError at the first difference between the tensors a network wants and those that are there."""
    matching = wanted.keys() & got.keys()
    what = f"weights in {where}"
    if not matching:
        example = next(iter(wanted), "tensors")
        raise ModelError(what, expected=f"tensors such as {example}", got=f"{len(got)} tensors, none of which fits")
    for name in sorted(matching):  # linear layers of old autoencoders were 1x1 convolutions
        if got[name] not in (wanted[name], (*wanted[name], 1, 1)):
            raise ModelError(f"{what}: {name}", expected=f"shape {wanted[name]}", got=f"{got[name]}")
    for problem, names in (("missing", wanted.keys() - got.keys()), ("left over", got.keys() - wanted.keys())):
        if names:
            raise ModelError(what, expected=f"{len(wanted)} tensors", got=f"{len(names)} {problem}, first {min(names)}")


def check_finite(tensors: dict[str, Tensor], where: Path) -> None:
    """Raises ModelError for NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(f"weights in {where}: {name}", expected="finite numbers", got="NaN or infinity")


def _name_in(stored: str, wanted: Iterable[str]) -> str:
    """The network's name of a stored tensor: its own, or what a release of before or after called it."""
    prefix, _, rest = stored.rpartition(".")
    parent, _, last = prefix.rpartition(".")
    candidates = [stored, stored.removeprefix("text_model."), f"text_model.{stored}"]
    if last in OLD_ATTENTION:
        candidates.append(f"{parent}.{OLD_ATTENTION[last]}.{rest}")
    return next((name for name in candidates if name in wanted), stored)


def _stored(opened: Any, name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of an open file; in a program that runs without values (`shared.plan.hollow`) one that has none."""
    if detect_fake_mode() is None:
        return opened.get_tensor(name).reshape(shape)
    with without_modes():
        dtype = opened.get_tensor(name).dtype
    return torch.empty(shape, dtype=dtype)


def _kept_dtype(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    return dtype if tensor.is_floating_point() else tensor.dtype

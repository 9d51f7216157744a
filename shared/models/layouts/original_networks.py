"""The tensors of one network by its names in diffusers: out of a file that has them, or that is in the original layout.

The way from the original names is that of diffusers' own `from_single_file`, for every class that has one. What the
names come to is compared with the network's, so that nothing is left at random and nothing passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from safetensors import safe_open
from torch import Tensor, nn

from shared.errors import ModelError, one_line
from shared.models.layouts.family import UNKNOWN, family_of
from shared.models.layouts.gguf_file import gguf_tensors, is_quantised, plain_but_linear, shape_of
from shared.models.weight_files import named_files, read_entries
from shared.models.weights import compare

# What the names of a part begin with in a file that holds other parts, too.
PREFIXES = {"vae": ("first_stage_model.", "vae.")}
DENOISER = ("model.diffusion_model.",)
T = TypeVar("T")


def network_tensors(component: str, network: nn.Module, config: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """The tensors of a network, by its own names: of a safetensors file or those that an index names, mapped, or of a
    GGUF file, quantised as they are where a layer can be. Other parts in it are left aside.

    component: its name in a folder. network: without weights; it tells the names and shapes that are wanted.
    Raises ModelError: a file that is cut short or a pickle, or of another network; tensors that are missing (with how
    many, and the first), left over, or of another shape.
    """
    stored = gguf_tensors(file) if file.suffix == ".gguf" else _safetensors(file)
    found = renamed(network, config, of_component(component, stored), file)
    wanted = _shapes(network.state_dict())
    compare(wanted, _shapes(found), file)
    found = plain_but_linear(network, found) if file.suffix == ".gguf" else found
    return {name: tensor if is_quantised(tensor) else tensor.reshape(wanted[name]) for name, tensor in found.items()}


def _safetensors(file: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for each in named_files(file):
        read_entries(each)  # which knows a broken one
        with safe_open(each, framework="pt") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, it is no mapping
    return found


def of_component(component: str, stored: Mapping[str, T]) -> dict[str, T]:
    """Those of a file's tensors, or their shapes, that are a component's, where their names say so; else all."""
    prefixes = PREFIXES.get(component, DENOISER)
    own = {name: value for name, value in stored.items() if name.startswith(prefixes)}
    return own or dict(stored)


def renamed(network: nn.Module, config: Mapping[str, Any], stored: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Tensors by the names of the network; those that no name of it is known for keep their own.

    Raises ModelError for a file of another network.
    """
    wanted = network.state_dict().keys()
    if stored.keys() == wanted:
        return stored
    change = _change(type(network))
    left, found = dict(stored), dict(stored)
    if change is not None:
        try:
            found = change(checkpoint=left, config=dict(config))
        except (KeyError, IndexError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            if not wanted & stored.keys():
                raise _of_another(network, stored, file, error) from error
            left = {}  # by diffusers' names, and not all of them: the comparison tells which
        if len(left) < len(stored):  # it takes out what it knows
            found |= left
    if not wanted & found.keys():
        raise _of_another(network, stored, file, None)
    return {name: tensor for name, tensor in found.items() if name in wanted or not _may_lie_there(network, name)}


def _change(network_class: type[nn.Module]) -> Any:
    """How diffusers changes the original names and tensors of a class; None for a class without an original layout."""
    names = (parent.__name__ for parent in network_class.__mro__)
    known = next((SINGLE_FILE_LOADABLE_CLASSES[name] for name in names if name in SINGLE_FILE_LOADABLE_CLASSES), None)
    return None if known is None else known["checkpoint_mapping_fn"]


def _may_lie_there(network: nn.Module, name: str) -> bool:
    """Whether diffusers, too, passes over a tensor of this name."""
    patterns = getattr(network, "_keys_to_ignore_on_load_unexpected", None) or ()
    return any(re.search(pattern, name) for pattern in patterns)


def _of_another(network: nn.Module, stored: Mapping[str, Tensor], file: Path, error: Exception | None) -> ModelError:
    """What to say of a file of which nothing fits."""
    family = family_of(_shapes(stored))
    got = f"{len(stored)} tensors, none of which fits" if family == UNKNOWN else family
    missing = f", without {error.args[0]}" if isinstance(error, KeyError) and error.args else ""
    reason = f": {one_line(str(error))}" if error is not None and not missing else missing
    return ModelError(f"weights in {file}", expected=f"those of a {type(network).__name__}", got=f"{got}{reason}")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: shape_of(tensor) for name, tensor in tensors.items()}


def kept_precision(network: nn.Module, name: str, tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """What a tensor of a network is held in that computes in `dtype`: some layers of some classes stay in float32."""
    if not tensor.is_floating_point():
        return tensor.dtype
    exact = getattr(network, "_keep_in_fp32_modules", None) or ()
    return torch.float32 if any(part in exact for part in name.split(".")) else dtype

"""Weights from safetensors files, strictly: every name and shape of the network must be there, every number finite.

Names and shapes are compared with the files' headers before a tensor is read, so a wrong file costs nothing.
Pickled weights can run code when opened; they are never opened here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from shared.compute.torch_internals import detect_fake_mode
from shared.errors import ModelError
from shared.models.weight_files import Entry, read_entries, weight_files

# Names that older releases of diffusers wrote in the attention of autoencoders.
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# Buffers that older releases of transformers wrote beside the weights.
NO_WEIGHT = re.compile(r"(^|\.)position_ids$")

# By the names of the safetensors format.
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool}
DTYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
DTYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies: a file, its entry there, and the shape in which it is wanted where that is another one.

    turned: whether it is a matrix that is wanted with rows and columns changed.
    """

    file: Path
    entry: Entry
    shape: tuple[int, ...]
    turned: bool = False

    def read(self, opened: BufferedReader, scratch: Tensor | None = None) -> Tensor:
        """The tensor, in memory of its own, or in `scratch`, bytes that suffice for it. opened: its file.

        In a program that runs without values (`shared.plan.hollow`) it has none. Raises ModelError for a dtype that
        torch does not have.
        """
        if detect_fake_mode() is not None:
            return torch.empty(self.shape, dtype=self.dtype)
        data = torch.empty(self.size, dtype=torch.uint8) if scratch is None else scratch[: self.size]
        opened.seek(self.entry.start)
        if opened.readinto(data.numpy().data) != self.size:
            raise ModelError(f"weights in {self.file}", expected="a whole safetensors file", got="one cut short")
        if self.turned:
            return data.view(self.dtype).reshape(self.shape[::-1]).T.contiguous()
        return data.view(self.dtype).reshape(self.shape)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.entry.stop - self.entry.start

    @property
    def dtype(self) -> torch.dtype:
        """Of torch. Raises ModelError for one that it does not have."""
        if self.entry.dtype not in DTYPES:
            raise ModelError(f"weights in {self.file}", expected=f"one of {', '.join(DTYPES)}", got=self.entry.dtype)
        return DTYPES[self.entry.dtype]


def load_network(build: Callable[[], N], folder: Path, *, device: str | torch.device, dtype: torch.dtype) -> N:
    """The network that `build` makes, with the weights in `folder`; in eval mode, its weights frozen.

    Raises ModelError, naming the folder: no or pickled weights, a file that is cut short, tensors that are missing,
    left over, of another shape, or not finite.
    """
    return fill(build, tensors_in(weight_files(folder)), folder, device=device, dtype=dtype)


def tensors_in(files: Iterable[Path]) -> dict[str, Stored]:
    """Where the tensors of safetensors files lie, by their names. Raises ModelError as `read_entries` does."""
    return {name: Stored(file, entry, entry.shape) for file in files for name, entry in read_entries(file)[0].items()}


def fill(
    build: Callable[[], N],
    found: Mapping[str, Stored],
    where: Path,
    *,
    device: str | torch.device,
    dtype: torch.dtype,
) -> N:
    """The network that `build` makes, with the tensors `found`, by their names in it; one is read at a time, so that
    loading takes no more memory than the network and its largest tensor. Raises ModelError as `load_network` does.
    """
    network, named = matched(build, found, where)
    changed = [place.size for place in named.values() if _kept_dtype(place.dtype, dtype) is not place.dtype]
    # One for all that are changed: many short-lived ones between those that stay leave holes in the memory.
    scratch = torch.empty(max(changed, default=0), dtype=torch.uint8)
    kept = {}
    for file in sorted({place.file for place in named.values()}):
        with file.open("rb") as opened:
            for name, place in named.items():
                if place.file == file:
                    keep = _kept_dtype(place.dtype, dtype)
                    tensor = place.read(opened, scratch if keep is not place.dtype else None)
                    if detect_fake_mode() is None:  # else there are no numbers
                        check_finite({name: tensor}, where)
                    kept[name] = tensor.to(device=device, dtype=keep)
    network.load_state_dict(kept, strict=True, assign=True)
    return network.to(device).requires_grad_(False).eval()


def matched(build: Callable[[], N], found: Mapping[str, Stored], where: Path) -> tuple[N, dict[str, Stored]]:
    """The network that `build` makes, without weights, and where each of its tensors lies, by the network's names.

    Raises ModelError for tensors that are missing, left over, or of another shape.
    """
    with init_empty_weights(include_buffers=False):
        network = build()
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    named = {_name_in(stored, wanted): place for stored, place in found.items()}
    named = {name: place for name, place in named.items() if not NO_WEIGHT.search(name)}
    compare(wanted, {name: place.shape for name, place in named.items()}, where)
    return network, {name: replace(place, shape=wanted[name]) for name, place in named.items()}


def write_tensors(file: Path, tensors: Mapping[str, Stored]) -> None:
    """A safetensors file of tensors that lie elsewhere, copied one at a time as they are stored.

    Raises ModelError for one that is not finite.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    # The library's own order: wide numbers first, so that each tensor begins at a multiple of its numbers' size.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    for name, place in ordered:
        header[name] = {
            "dtype": place.entry.dtype,
            "shape": list(place.shape),
            "data_offsets": [end, end := end + place.size],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, place in ordered:
            with place.file.open("rb") as opened:
                tensor = place.read(opened)
            check_finite({name: tensor}, place.file)
            out.write(tensor.flatten().view(torch.uint8).numpy().data)


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
        if tensor.is_floating_point() and tensor.numel() and not _all_finite(tensor):
            raise ModelError(f"weights in {where}: {name}", expected="finite numbers", got="NaN or infinity")


def _all_finite(tensor: Tensor) -> bool:
    if tensor.element_size() == 1:  # float8, for which torch can do little
        tensor = tensor.float()
    least, most = tensor.aminmax()  # NaN where there is any; and no copies, as isfinite makes
    return bool(least.isfinite() & most.isfinite())


def _name_in(stored: str, wanted: Iterable[str]) -> str:
    """The network's name of a stored tensor: its own, or what a release of before or after called it."""
    prefix, _, rest = stored.rpartition(".")
    parent, _, last = prefix.rpartition(".")
    candidates = [stored, stored.removeprefix("text_model."), f"text_model.{stored}"]
    if last in OLD_ATTENTION:
        candidates.append(f"{parent}.{OLD_ATTENTION[last]}.{rest}")
    return next((name for name in candidates if name in wanted), stored)


def _kept_dtype(stored: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    return dtype if stored.is_floating_point else stored

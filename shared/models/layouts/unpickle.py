"""Tensors out of a pickle, in a process that may do little: `python -m shared.models.layouts.unpickle IN OUT REPORT`.

torch reads it with weights_only, which makes tensors and plain values and calls nothing else; should that fail to hold,
or the file be made to exhaust the machine, there are limits on memory, time and what is written. REPORT gets a line of
JSON: what became of it. Only `shared.models.layouts.pickles` starts this.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch
from safetensors.torch import save_file
from torch import Tensor

from shared.errors import ModelError, one_line
from shared.models.weights import check_finite

MEMORY, SPARE_BYTES = 4, 2**28  # address space beyond what torch takes: this often the file's size, and this
SECONDS, BYTES_A_SECOND = 60, 10**7  # of processor time
WRITTEN, SPARE_WRITTEN = 2, 2**24  # the most bytes of a file, in sizes of IN, and more
INSIDE = ("state_dict", "model", "params", "module")  # where trainers keep the tensors among other things
NESTED = 3


def main(source: Path, out: Path, report: Path) -> None:
    """Read `source`, write its tensors to `out`, and say in `report` how it went."""
    with report.open("w") as said:
        try:
            limit(source.stat().st_size)
            mapped = is_zip(source)
            tensors, left_out = tensors_of(torch.load(source, map_location="cpu", weights_only=True, mmap=mapped))
            check_finite(tensors, source)
            save_file(tensors, out, metadata={"format": "pt"})
            answer: dict[str, Any] = {"tensors": len(tensors), "left_out": left_out}
        except MemoryError:
            answer = {"refused": "more memory than its size gives reason for"}
        except Exception as error:  # whatever a broken or hostile file makes torch stumble over
            answer = {"refused": reason(error)}
        said.write(json.dumps(answer))


def limit(size: int) -> None:
    """Take from this process what reading a file of `size` bytes does not need."""
    statm = Path("/proc/self/statm")
    if statm.is_file():  # elsewhere a limit on addresses means little
        held = int(statm.read_text().split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, held + MEMORY * size + SPARE_BYTES)
    _lower(resource.RLIMIT_CPU, SECONDS + size // BYTES_A_SECOND)
    _lower(resource.RLIMIT_FSIZE, WRITTEN * size + SPARE_WRITTEN)
    _lower(resource.RLIMIT_NOFILE, 64)
    _lower(resource.RLIMIT_CORE, 0)


def is_zip(source: Path) -> bool:
    """Whether it is an archive, as torch.save has written since 1.6. Raises ModelError for one with compressed parts,
    which torch would map into memory as they are.
    """
    if not is_zipfile(source):
        return False
    with ZipFile(source) as archive:
        if any(part.compress_type != ZIP_STORED for part in archive.infolist()):
            raise ModelError("", got="an archive with compressed parts, which torch.save does not write")
    return True


def tensors_of(value: Any) -> tuple[dict[str, Tensor], int]:
    """The tensors of a checkpoint, each whole and in memory of its own, and how many other entries it has.

    Tensors that share memory (tied weights) become equal ones. Raises ModelError for none, or one that is not dense.
    """
    for _ in range(NESTED):
        inner = next((value[key] for key in INSIDE if isinstance(value.get(key), dict)), None) if _is(value) else None
        if inner is None:
            break
        value = inner
    tensors = {key: item for key, item in value.items() if isinstance(item, Tensor)} if _is(value) else {}
    if not tensors:
        raise ModelError("", got=f"no tensors by name, but a {type(value).__name__}")
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise ModelError("", got=f"{name}, a tensor that is sparse or quantised")
    sharing = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors.values())
    kept = {}
    for name, tensor in tensors.items():
        alone = sharing[tensor.untyped_storage().data_ptr()] == 1 and tensor.is_contiguous()
        kept[name] = tensor.detach() if alone else tensor.detach().clone(memory_format=torch.contiguous_format)
    return kept, len(value) - len(tensors)


def reason(error: Exception) -> str:
    """One line: for what weights_only does not make, what that is."""
    if isinstance(error, ModelError):
        return f"{error.what}: {error.got}".removeprefix(": ")
    text = str(error)
    if match := re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", text):
        return f"{match[1]}, which is code"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "alloc" in text.lower() and "memory" in text.lower():
        return "more memory than its size gives reason for"
    return f"{type(error).__name__}: {one_line(text)}"


def _is(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _lower(kind: int, wanted: int) -> None:
    hard = resource.getrlimit(kind)[1]
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))

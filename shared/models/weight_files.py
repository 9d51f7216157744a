"""The files of a model's weights, looked at without torch: which there are, and what their headers say.

Pickled weights can run code when opened; they are never opened here.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from shared.artifacts.files import sha256
from shared.artifacts.json_text import parse_object, read_json_file
from shared.errors import InputError, ModelError, one_line

MAX_HEADER_BYTES = 100_000_000  # what the safetensors library takes
# Of one number, by the dtypes that are whole bytes; others are left to that library.
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
BITS |= {"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64}
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one component: one, or the shards that an index names. Raises ModelError for none."""
    if not folder.is_dir():
        raise ModelError("model folder", expected=f"a subfolder {folder.name}", got=f"none in {folder.parent}")
    indices = sorted(folder.glob("*.safetensors.index.json"))
    for index in indices:
        if index.name.count(".") == 3:  # no variant such as ".fp16."
            shards = sorted(set(read_json(index).get("weight_map", {}).values()))
            missing = [name for name in shards if not (folder / name).is_file()]
            if missing or not shards:
                raise ModelError(f"weights in {folder}", expected="every shard of its index", got=f"no {missing[:1]}")
            return [folder / name for name in shards]
    for name in ("diffusion_pytorch_model.safetensors", "model.safetensors"):
        if (folder / name).is_file():
            return [folder / name]
    found = sorted(file.name for file in folder.iterdir() if file.suffix in (*PICKLES, ".safetensors"))
    if any(name.endswith(PICKLES) for name in found):
        raise ModelError(
            f"weights in {folder}",
            expected="safetensors",
            got=f"{found[0]}, a pickle, which can run code when it is opened",
            hint="Save the model again with safe_serialization=True",
        )
    raise ModelError(f"weights in {folder}", expected="a .safetensors file", got=", ".join(found) or "none")


def weight_hashes(model: Path) -> dict[str, str]:
    """SHA-256 of every weights file of a model, a folder or a single file, by its path in the folder."""
    files = [model] if model.is_file() else sorted(model.rglob("*.safetensors"))
    base = model.parent if model.is_file() else model
    return {file.relative_to(base).as_posix(): sha256(file) for file in files}


def read_header(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file, by its header alone.

    The file is a length (8 bytes, little-endian), as many bytes of JSON, and the tensors one after the other.
    Raises ModelError where it is cut short, or where the header says what such a file cannot be.
    """
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise InputError("header", got=f"a header of {length} bytes in a file of {size}")
            header = parse_object(opened.read(length), "header")
        header.pop("__metadata__", None)
        places = [_place(name, entry) for name, entry in header.items()]
        end = 0
        for start, stop, name in sorted(places):
            if start != end:
                raise InputError("header", got=f"{name} at {start} instead of {end}")
            end = stop
        if end != size - 8 - length:
            raise InputError("header", got=f"{size - 8 - length} bytes of tensors instead of {end}")
    except (InputError, OSError) as error:
        got = error.got if isinstance(error, InputError) else error.strerror
        raise ModelError(
            f"weights {file}", expected="a whole safetensors file", got=got, hint="Fetch it again"
        ) from error
    return {name: tuple(entry["shape"]) for name, entry in header.items()}


def _place(name: str, entry: Any) -> tuple[int, int, str]:
    """Where a tensor starts and stops, as its entry in a header says. Raises InputError for what no entry can say."""
    try:
        (start, stop), shape, bits = entry["data_offsets"], entry["shape"], BITS.get(entry["dtype"])
        whole = all(type(number) is int and number >= 0 for number in (start, stop, *shape))
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole or start > stop or (bits and 8 * (stop - start) != bits * math.prod(shape)):
        raise InputError("header", got=f"{name}: {one_line(entry)}")
    return start, stop, name


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelError when the file is missing or holds none."""
    try:
        return read_json_file(file)
    except InputError as error:
        raise ModelError(f"model {error.what}", expected=error.expected, got=error.got) from error

"""The files of a model's weights, looked at without torch: which there are, and what their headers say.

Pickled weights can run code when opened; they are never opened here.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shared.artifacts.files import sha256
from shared.artifacts.json_text import parse_object, read_json_file
from shared.errors import InputError, ModelError, one_line

MAX_HEADER_BYTES = 100_000_000  # what the safetensors library takes
# Of one number, by the dtypes that are whole bytes; others are left to that library.
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
BITS |= {"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64}
GGUF = "GGUF"  # what such a file begins with
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
WEIGHTS = re.compile(
    r"(diffusion_pytorch_)?model(\.(?P<whole>\w+))?\.safetensors"
    r"|(diffusion_pytorch_)?model\.safetensors\.index(\.(?P<sharded>\w+))?\.json"
)
INDEX = re.compile(r"\.safetensors\.index(\.\w+)?\.json$")  # of shards
PICKLE_STARTS = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))  # torch.save, new and old


@dataclass(frozen=True)
class Entry:
    """A tensor in a safetensors file: its dtype as the format writes it, its shape, and its bytes from `start` to
    `stop` of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of one component: one, or the shards that an index names. Raises ModelError for none."""
    return named_files(weights_of(folder))


def weights_of(folder: Path) -> Path:
    """The safetensors file of one component, or the index of its shards. Raises ModelError for none.

    Weights without a variant come first; where there are none, those of the one variant that is there (".fp16.").
    """
    if not folder.is_dir():
        raise ModelError("model folder", expected=f"a subfolder {folder.name}", got=f"none in {folder.parent}")
    by_variant = _by_variant(folder)
    if len(by_variant) > 1 and "" not in by_variant:
        names = " or ".join(sorted(by_variant))
        raise ModelError(f"weights in {folder}", expected="weights of one variant", got=f"{names}, and none without")
    if by_variant:
        return by_variant.get("") or next(iter(by_variant.values()))
    found = sorted(file.name for file in folder.iterdir() if file.suffix in (*PICKLES, ".safetensors"))
    if any(name.endswith(PICKLES) for name in found):
        raise ModelError(
            f"weights in {folder}",
            expected="safetensors",
            got=f"{found[0]}, a pickle, which can run code when it is opened",
            hint="kinoform convert makes safetensors of it",
        )
    raise ModelError(f"weights in {folder}", expected="a .safetensors file", got=", ".join(found) or "none")


def _by_variant(folder: Path) -> dict[str, Path]:
    """A component's weights, or the index of their shards, by variant; "" without one.

    Variants stand before the ending: model.fp16.safetensors, model.safetensors.index.fp16.json.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir(), key=lambda file: (file.suffix != ".json", file.name)):  # an index comes first
        match = WEIGHTS.fullmatch(file.name)
        if match and file.is_file():
            found.setdefault(match["whole"] or match["sharded"] or "", file)
    return found


def named_files(file: Path) -> list[Path]:
    """The files of weights that a path stands for: itself, or all that it names where it is an index of shards.

    Raises ModelError for an index that is not there, or whose shards are not.
    """
    return _shards(file) if INDEX.search(file.name) else [file]


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    shards = sorted({str(name) for name in names.values()}) if isinstance(names, dict) else []
    missing = [name for name in shards if Path(name).name != name or not (index.parent / name).is_file()]
    if missing or not shards:
        got = f"no {missing[0]}" if missing else "an index that names none"
        raise ModelError(f"weights in {index.parent}", expected="every shard of its index", got=got)
    return [index.parent / name for name in shards]


def weight_hashes(model: Path) -> dict[str, str]:
    """SHA-256 of every weights file of a model, a folder or a single file, by its path in the folder."""
    files = [model] if model.is_file() else sorted(model.rglob("*.safetensors"))
    base = model.parent if model.is_file() else model
    return {file.relative_to(base).as_posix(): sha256(file) for file in files}


def check_gguf(file: Path) -> None:
    """Raises ModelError for a file that does not begin as GGUF does."""
    try:
        with file.open("rb") as opened:
            first = opened.read(len(GGUF))
    except OSError as error:
        raise ModelError(f"weights {file}", expected="a GGUF file", got=error.strerror) from error
    if first != GGUF.encode():
        raise ModelError(f"weights {file}", expected="a GGUF file", got="another", hint="Fetch it again")


def read_header(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file. Raises ModelError as `read_entries` does."""
    return {name: entry.shape for name, entry in read_entries(file)[0].items()}


def read_entries(file: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors in a safetensors file and its metadata, by its header alone.

    The file is a length (8 bytes, little-endian), as many bytes of JSON, and the tensors one after the other.
    Raises ModelError where it is cut short or a pickle, or where the header says what such a file cannot be.
    """
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            first = opened.read(8)
            if first.startswith(PICKLE_STARTS) and int.from_bytes(first, "little") > size:
                raise ModelError(
                    f"weights {file}",
                    expected="a whole safetensors file",
                    got="a pickle, which can run code when it is opened",
                    hint="kinoform convert makes safetensors of it",
                )
            length = int.from_bytes(first, "little")
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise InputError("header", got=f"a header of {length} bytes in a file of {size}")
            header = parse_object(opened.read(length), "header")
        metadata = header.pop("__metadata__", None)
        places = [_place(name, entry) for name, entry in header.items()]
        end = 0
        for start, stop, name in sorted(places):
            if start != end:
                raise InputError("header", got=f"{name} at {start} instead of {end}")
            end = stop
        if end != size - 8 - length:
            raise InputError("header", got=f"{size - 8 - length} bytes of tensors instead of {end}")
    except (InputError, OSError) as error:
        if isinstance(error, ModelError):
            raise
        got = error.got if isinstance(error, InputError) else error.strerror
        raise ModelError(
            f"weights {file}", expected="a whole safetensors file", got=got, hint="Fetch it again"
        ) from error
    base = 8 + length
    entries = {
        name: Entry(header[name]["dtype"], tuple(header[name]["shape"]), base + start, base + stop)
        for start, stop, name in places
    }
    texts = metadata.items() if isinstance(metadata, dict) else ()
    return entries, {name: value for name, value in texts if isinstance(value, str)}


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


def check_plain(config: Mapping[str, Any], where: Path, *, but: str | None = None) -> None:
    """Raises ModelError for a network whose configuration says that its weights were saved quantised.

    where: its file or folder. but: by what they may be.
    """
    method = (config.get("quantization_config") or {}).get("quant_method")
    if method not in (None, but):
        raise ModelError(
            f"weights in {where}", expected="weights that were saved whole", got=f"quantised ones, by {method}",
            hint="Take the model that they were made of, with --quantization int8 or nf4",
        )  # fmt: skip
    if method is not None and find_spec(method) is None:
        hint = f"Try: pip install 'kinoform[{method}]'"
        raise ModelError(f"weights in {where}", expected=f"the package {method}", got="none", hint=hint)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelError when the file is missing or holds none."""
    try:
        return read_json_file(file)
    except InputError as error:
        raise ModelError(f"model {error.what}", expected=error.expected, got=error.got) from error

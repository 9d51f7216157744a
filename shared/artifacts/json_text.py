"""JSON that somebody else wrote: what it holds, or one InputError. Every reader of ours goes through here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from shared.errors import InputError

MAX_DEPTH = 64  # of lists and objects in each other; ours have 4
MAX_BYTES = 16 * 1024**2


def parse_json(text: str | bytes, source: str, *, expected: str = "JSON") -> Any:
    """The value that `text` holds. source: what to call it.

    InputError: no JSON, or not in UTF-8; NaN or infinity, which Python's reader takes for numbers and JSON does not
    know; more than MAX_DEPTH deep, on which whatever walks through it would fail.
    """
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        if _too_deep(value):
            raise RecursionError
    except RecursionError as error:
        raise InputError(
            source, expected=expected, got=f"more than {MAX_DEPTH} lists or objects in each other"
        ) from error
    except ValueError as error:
        raise InputError(source, expected=expected, got=str(error)) from error
    return value


def parse_object(text: str | bytes, source: str, *, expected: str = "a JSON object") -> dict[str, Any]:
    """The object that `text` holds. Raises InputError as `parse_json` does, and for another value."""
    value = parse_json(text, source, expected=expected)
    if not isinstance(value, dict):
        raise InputError(source, expected=expected, got=type(value).__name__)
    return value


def read_json_file(file: Path, *, expected: str = "a JSON object") -> dict[str, Any]:
    """The object in a file. Raises InputError as `parse_object` does, and when the file is missing or huge."""
    source = f"file {file}"
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise InputError(source, expected=expected, got=f"{size} bytes")
        data = file.read_bytes()
    except OSError as error:
        raise InputError(source, expected=expected, got=error.strerror or str(error)) from error
    return parse_object(data, source, expected=expected)


def _no_number(name: str) -> float:
    raise ValueError(f"{name}, which is no number of JSON's")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text}, which is beyond all numbers")
    return number


def _too_deep(value: Any) -> bool:
    """Whether a value holds more than MAX_DEPTH lists and objects in each other; without calls in each other."""
    layer, depth = [value], 0
    while layer := [item for item in layer if isinstance(item, (dict, list))]:
        depth += 1
        if depth > MAX_DEPTH:
            return True
        layer = [inner for item in layer for inner in (item.values() if isinstance(item, dict) else item)]
    return False

"""Data as script files: a page from disk may load no other. They call a function of the page with what they hold.

What they hold stands in a string that JSON.parse reads, not in the script itself: there "__proto__" would be no key,
and reading is slower. Nothing in the string can end a script element, a line or a comment of HTML.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

SAFE_INTEGER = 2**53 - 1  # JavaScript's numbers hold whole numbers exactly up to here
CALL = re.compile(rb'kinoform\.\w+\(JSON\.parse\((".*")\)\)\n', re.DOTALL)


def call(function: str, text: str) -> bytes:
    """A script that calls `kinoform.function` with the value of some JSON text."""
    string = json.dumps(text).replace("<", "\\u003c").replace(">", "\\u003e")
    return f"kinoform.{function}(JSON.parse({string}))\n".encode("ascii")


def called_with(script: bytes) -> Any:
    """The value that a script of `call` holds. Raises ValueError for any other."""
    found = CALL.fullmatch(script)
    if found is None:
        raise ValueError("no script of ours")
    return json.loads(json.loads(found[1]))


def json_text(value: Any) -> str:
    """`plain` of a value, as JSON in ASCII."""
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> Any:
    """A value as JSON that JavaScript reads as it is meant: what its numbers cannot hold, and what JSON does not know,
    as text.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= SAFE_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)

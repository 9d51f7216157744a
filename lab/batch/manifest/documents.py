"""Files of manifests within limits: how large they may be, how deep and how much JSON may hold."""

from __future__ import annotations

import codecs
import io
import json
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.errors import InputError

MOST_BYTES = 64 * 1024**2  # of a file
MOST_LINES = 1_000_000
MOST_LINE_BYTES = 1024**2
MOST_DOCUMENT_BYTES = 16 * 1024**2  # of YAML and JSON, which are read as a whole
MOST_DEPTH = 64  # of lists and mappings in one another
MOST_NODES = 1_500_000  # of JSON: commas and brackets
PIECE = 1024**2


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """A file in UTF-8, without the mark that Windows writes. InputError names the line where it is another text."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}", expected="a file", got="a folder or device")
        with path.open("rb") as file:
            data = file.read(most + 1) if status.st_size <= most else b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}", expected="a file that can be read", got=reason) from error
    size = max(status.st_size, len(data))
    if size > most:
        raise InputError(f"{path}", expected=f"at most {most} bytes", got=f"{size} bytes")
    try:
        decoder = codecs.getincrementaldecoder("utf-8")()
        for start in range(0, len(data) + 1, PIECE):  # the whole as text could take four times as much
            decoder.decode(data[start : start + PIECE], final=start + PIECE > len(data))
    except UnicodeDecodeError:
        raise _no_utf8(data) from None
    return data.removeprefix(b"\xef\xbb\xbf")


def lines_of(data: bytes) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, without the blanks around them, each with its place."""
    count = data.count(b"\n")
    if count > MOST_LINES:
        raise InputError("manifest", expected=f"at most {MOST_LINES} lines", got=count)
    for number, line in enumerate(io.BytesIO(data), 1):
        if len(line) > MOST_LINE_BYTES:
            raise InputError(f"line {number}", expected=f"at most {MOST_LINE_BYTES} bytes", got=f"{len(line)} bytes")
        text = line.decode().strip()
        if text:
            yield f"line {number}", text


def from_json(text: str, place: str = "") -> Any:
    """The value of a JSON text. place: of a text that is one line of many.

    Raises InputError for what is no JSON, too deep, or has a key twice. Of a large text `check_nodes` is asked before.
    """
    try:
        value = DECODER.decode(text)
    except RecursionError as error:
        raise too_deep(place or "manifest") from error
    except ValueError as error:
        where = place or (f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "manifest")
        raise InputError(where, expected="JSON", got=getattr(error, "msg", str(error))) from error
    if text.count("[") + text.count("{") > MOST_DEPTH:
        _check_depth(value, place or "manifest")
    return value


def check_nodes(data: bytes) -> None:
    """Refuse JSON that would fill the memory once it is read."""
    found = sum(data.count(sign) for sign in (b",", b"[", b"{"))
    if found > MOST_NODES:
        most = f"at most {MOST_NODES} commas and brackets"
        raise InputError("manifest", expected=most, got=found, hint="Split it into several")


def too_deep(place: str) -> InputError:
    return InputError(place, expected=f"at most {MOST_DEPTH} lists and mappings in one another", got="more")


def _no_utf8(data: bytes) -> InputError:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line, wrong = data[: error.start].count(b"\n") + 1, data[error.start]
        utf16 = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        hint = "It is UTF-16: save it as UTF-8" if utf16 else "Save the file as UTF-8"
        return InputError(f"line {line}", expected="text in UTF-8", got=f"the byte 0x{wrong:02x}", hint=hint)
    raise AssertionError("text in UTF-8 in pieces, but not as a whole")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {counts.most_common(1)[0][0]} twice")
    return value


def _check_depth(value: Any, place: str) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [part for item in level for part in (item.values() if isinstance(item, dict) else item)
                 if isinstance(part, (dict, list))] if level else level  # fmt: skip
    if level:
        raise too_deep(place)


DECODER = json.JSONDecoder(object_pairs_hook=_each_once)

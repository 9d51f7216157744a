"""Typed errors. Each is one line that says what is wrong, what was expected, what was got, and what to do.

`exit_code` is what the command line leaves with: 2 when the input is wrong, 1 when the work failed.
"""

from __future__ import annotations

import unicodedata

MAX_GOT = 80


def printable(text: str) -> str:
    """`text` as a terminal may show it: on one line, what would steer the terminal or turn the text round escaped.

    Control characters, line breaks, marks of direction and other invisible ones, and lone surrogates become what
    Python writes for them (`\\x1b`); letters, signs and spaces of every script stay.
    """
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def one_line(value: object, limit: int = MAX_GOT) -> str:
    """`value` as text on one line: the middle of a long text cut out (to `limit`), control characters escaped."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) > limit:
        keep = max(limit - 3, 2)
        text = text[: keep - keep // 3] + "..." + text[len(text) - keep // 3 :]
    # Escaped after the cut, which keeps a megabyte of input cheap.
    return printable(text)


class KinoformError(Exception):
    """The work failed, for a reason that can be named.

    `str()` is one line: "what: expected X, got Y. hint", without the parts that were not given.
    """

    exit_code = 1

    def __init__(self, what: str, *, expected: object = None, got: object = None, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.got = got
        self.hint = hint

    def __str__(self) -> str:
        parts = []
        if self.expected is not None:
            parts.append(f"expected {one_line(self.expected, limit=600)}")
        if self.got is not None:
            parts.append(f"got {one_line(self.got)}")
        line = one_line(self.what, limit=600)
        if parts:
            line = f"{line}: {', '.join(parts)}"
        if self.hint:
            line = f"{line.rstrip('.')}. {one_line(self.hint, limit=600)}"
        return line


class InputError(KinoformError):
    """What the user gave is wrong: a value, a file, a key, a place to write to."""

    exit_code = 2


class ModelError(InputError):
    """A model folder or weight file is missing, corrupt, or does not fit."""


class OutputError(KinoformError):
    """A result could not be written although its place looked right: disk full, lost device, failed encoder."""

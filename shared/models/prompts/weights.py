"""Prompts whose parts count more or less: "a (red:1.4) cube next to a (ball:0.8)". Imports no torch.

A part in brackets with a colon and a number counts that many times; one inside another by both numbers. Brackets
without a number are text, and `\\(` and `\\)` always are.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PART = re.compile(r"(?<!\\)\((?P<text>[^()]*(?:\\[()][^()]*)*):(?P<weight>[0-9]{1,2}(?:\.[0-9]{1,6})?)\)")
MARK = "\0"  # stands for a part that was found, and occurs in no prompt


class Part(NamedTuple):
    """Some words, and how much they count."""

    text: str
    weight: float


def parts_of(prompt: str) -> list[Part]:
    """A prompt in parts that count differently, in order; one part where it has no weights."""
    found: list[tuple[str, float]] = []

    def keep(match: re.Match[str]) -> str:
        found.append((match["text"], float(match["weight"])))
        return f"{MARK}{len(found) - 1}{MARK}"

    text, changed = prompt.replace(MARK, ""), 1
    while changed:
        text, changed = PART.subn(keep, text)  # from the inside out
    parts: list[Part] = []

    def unfold(text: str, weight: float) -> None:
        for index, piece in enumerate(text.split(MARK)):
            if index % 2:
                inner, factor = found[int(piece)]
                unfold(inner, weight * factor)
            elif piece:
                parts.append(Part(piece.replace("\\(", "(").replace("\\)", ")"), weight))

    unfold(text, 1.0)
    return parts or [Part("", 1.0)]


def without_weights(prompt: str) -> str:
    """The words alone."""
    return "".join(part.text for part in parts_of(prompt))

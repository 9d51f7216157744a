"""What a model's files say of its licence. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import yaml

FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENSE-MODEL", "COPYING")
CARD = "README.md"
MOST_BYTES = 200_000  # of a text that is read


def licence_of(folder: Path) -> tuple[str | None, str | None]:
    """The licence's name, as the model card's front matter says it, and its text, where a file holds it."""
    text = next((found for name in FILES if (found := _text(folder / name))), None)
    card = _text(folder / CARD) or ""
    return _named(card), text


def first_line(text: str) -> str:
    """The first line of a licence's text that says something."""
    return next((line.strip(" #*\t") for line in text.splitlines() if line.strip(" #*\t")), "")


def _named(card: str) -> str | None:
    """`license` (and `license_name`, where that is "other") between the two lines `---` at a card's beginning."""
    if not card.startswith("---"):
        return None
    try:
        values = yaml.safe_load(card[3:].partition("\n---")[0])
    except (yaml.YAMLError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("license"), str):
        return None
    name = values.get("license_name")
    return name if values["license"] == "other" and isinstance(name, str) else values["license"]


def _text(file: Path) -> str | None:
    try:
        if file.stat().st_size > MOST_BYTES:
            return None
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None

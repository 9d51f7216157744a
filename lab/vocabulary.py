"""What to tell the user of the words that a model with a small vocabulary knows, and of those that it does not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from shared.artifacts.json_text import read_json_file
from shared.errors import one_line
from shared.models.prompts.words import fold, nearest
from shared.view_words import VIEW_WORDS
from world.prompt import COLOUR_NAMES, MOTIONS, OBJECT_NAMES, RELATIONS, SYNONYMS

NAMED = 4  # unknown words that a warning names
LONGEST = 20  # characters of a word in a warning


@runtime_checkable
class Text(Protocol):
    """The part of `shared.models.prompts.text.TextConditioner` this needs."""

    def unknown_words(self, prompt: str) -> list[str]: ...
    def vocabulary(self) -> list[str]: ...


def unknown_words(text: Text, *prompts: str) -> tuple[list[str], list[str]]:
    """The words of `prompts` that the model does not know, and what to say of them: one short line, or none."""
    unknown = list(dict.fromkeys(word for prompt in prompts for word in text.unknown_words(prompt)))
    if not unknown:
        return [], []
    known = text.vocabulary()
    shown = []
    for word in unknown[:NAMED]:
        other = nearest(word, known)
        shown.append(f'"{one_line(word, LONGEST)}"' + (f" (nearest: {other})" if other else ""))
    more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    out = "leaves it out" if len(unknown) == 1 else "leaves them out"
    return unknown, [f"this model does not know {', '.join(shown)}{more} and {out}; see: kinoform words"]


def with_nearest(prompt: str, words: Sequence[str]) -> tuple[str, dict[str, str]]:
    """A prompt in which each word that is not among `words`, nor another form of one, gives way to the nearest of them,
    where one is near; and what was replaced by what. A full vocabulary ([]) knows every word.
    """
    replaced: dict[str, str] = {}

    def known(match: re.Match[str]) -> str:
        word = match[0].lower()
        if word in words or fold(word, words) is not None:
            return match[0]
        other = nearest(word, words)
        if other is None:
            return match[0]
        replaced[word] = other
        return other

    return (re.sub(r"[^\W\d_]+", known, prompt) if words else prompt), replaced


def stored_words(folder: Path) -> list[str]:
    """The words that a model folder's tokenizer lists, the most frequent first; [] for a full vocabulary.

    Raises ModelError or InputError for a folder without a tokenizer, or a damaged one.
    """
    words = read_json_file(folder / "tokenizer" / "tokenizer_config.json").get("words", [])
    return [str(word) for word in words]


def grouped(vocabulary: Sequence[str]) -> dict[str, list[str]]:
    """The vocabulary in lists: what of the world's language it holds, by kind, and all its other words."""
    words = set(vocabulary)
    groups = {
        "objects": (*OBJECT_NAMES, *SYNONYMS),
        "colours": COLOUR_NAMES,
        "motions": tuple(MOTIONS.values()),
        "relations": RELATIONS,
        "views": VIEW_WORDS,
    }
    held = {name: [p for p in phrases if words.issuperset(p.split())] for name, phrases in groups.items()}
    if not (held["objects"] and held["colours"]):  # not the world's
        held = {}
    listed = {word for phrases in held.values() for phrase in phrases for word in phrase.split()}
    held["words"] = [word for word in vocabulary if word not in listed]
    return {name: phrases for name, phrases in held.items() if phrases}

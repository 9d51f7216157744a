"""What to tell the user when a prompt has words that a model with a small vocabulary does not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from shared.world.prompt import COLOUR_NAMES, MOTIONS, OBJECT_NAMES, RELATIONS, SYNONYMS, VIEWS

OTHERS_SHOWN = 20  # words of a vocabulary that is not the world's


@runtime_checkable
class Text(Protocol):
    """The part of `shared.text.TextConditioner` this needs."""

    def unknown_words(self, prompt: str) -> list[str]: ...
    def vocabulary(self) -> list[str]: ...


def unknown_words(text: Text, *prompts: str) -> tuple[list[str], list[str]]:
    """The words of `prompts` that the model does not know, and what to say of them: a line, or nothing."""
    unknown = list(dict.fromkeys(word for prompt in prompts for word in text.unknown_words(prompt)))
    if not unknown:
        return [], []
    shown = ", ".join(repr(word) for word in unknown[:10]) + (", ..." if len(unknown) > 10 else "")
    return unknown, [f"this model does not know {shown} and leaves it out; kinoform words lists what it knows"]


def known(vocabulary: Sequence[str]) -> str:
    """The vocabulary in a few lists: what of the world's language it holds, and the first of its other words."""
    words = set(vocabulary)
    groups = {
        "objects": (*OBJECT_NAMES, *SYNONYMS),
        "colours": COLOUR_NAMES,
        "motions": tuple(MOTIONS.values()),
        "relations": RELATIONS,
        "views": VIEWS,
    }
    lists = []
    for name, phrases in groups.items():
        held = [phrase for phrase in phrases if words.issuperset(phrase.split())]
        if held:
            lists.append(f"{name}: {', '.join(held)}")
    listed = {word for phrases in groups.values() for phrase in phrases for word in phrase.split()}
    others = [word for word in vocabulary if word not in listed]
    if others and not lists:
        lists.append(
            ", ".join(others[:OTHERS_SHOWN])
            + (f" and {len(others) - OTHERS_SHOWN} more" if len(others) > OTHERS_SHOWN else "")
        )
    return "; ".join(lists)

"""Words that a small vocabulary lacks: another form of one that it has, or the nearest one. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator

SHORTEST = 3  # letters of a base: shorter ones are in too many words
ALIKE = 0.8  # of difflib's ratio, from which on a word is taken for a slip of another


def fold(word: str, known: Collection[str]) -> str | None:
    """The known word that `word` is another form of: its singular or plural, positive, or form in -ing; else None.

    >>> fold("cubes", {"cube"}), fold("redder", {"red"}), fold("bounces", {"bouncing"}), fold("kitten", {"cat"})
    ('cube', 'red', 'bouncing', None)
    """
    return next((form for form in _forms(word) if form in known and form != word), None)


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known word to name in place of `word`: the colour that looks most alike, or the likely spelling; else None.

    >>> nearest("crimson", ["red", "blue"]), nearest("sphear", ["sphere"]), nearest("kitten", ["mug"])
    ('red', 'sphere', None)
    """
    from shared.models.prompts.colour_words import (
        nearest_colour,  # here: it brings Pillow, which folding has no use for
    )

    colour = nearest_colour(word, known)
    if colour is not None or len(word) < SHORTEST:
        return colour
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=ALIKE)), None)


def _forms(word: str) -> Iterator[str]:
    """Words that `word` may be a form of, the likeliest first."""
    yield word + "s"
    yield word + "es"
    yield from _gerunds(word)
    for ending, others in (("ies", ("y",)), ("ves", ("f", "fe")), ("es", ("", "e")), ("s", ("",))):
        if word.endswith(ending):
            for other in others:
                base = word.removesuffix(ending) + other
                if len(base) >= SHORTEST:
                    yield base
                    yield from _gerunds(base)
    for ending in ("er", "est", "ier", "iest"):
        if word.endswith(ending):
            base = word.removesuffix(ending)
            for stem in _stems(base):
                yield stem + "y" if ending.startswith("i") else stem
    for ending in ("ed", "ing"):
        if word.endswith(ending):
            for stem in _stems(word.removesuffix(ending)):
                yield from _gerunds(stem)
                if ending == "ing":
                    yield stem
                    yield stem + "s"


def _stems(base: str) -> Iterator[str]:
    """What may have stood before an ending: as it is, with an e that went, without a letter that was doubled."""
    for stem in (base, base + "e", base[:-1] if base[-2:-1] == base[-1:] else ""):
        if len(stem) >= SHORTEST:
            yield stem


def _gerunds(verb: str) -> Iterator[str]:
    """The form in -ing: bounce, bouncing; spin, spinning; move, moving."""
    if len(verb) >= SHORTEST:
        yield verb + "ing"
        yield verb + verb[-1] + "ing"
        if verb.endswith("e"):
            yield verb[:-1] + "ing"

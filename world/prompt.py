"""What a world prompt says: one or two coloured objects, perhaps a relation, a motion, a view; both ways."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from shared.errors import InputError
from shared.view_words import VIEW_WORDS

COLOUR_NAMES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black")
OBJECT_NAMES = (
    "sphere", "cube", "cylinder", "cone", "torus", "capsule", "mushroom", "tree", "lamp", "bowl", "table", "rocket",
    "chair", "mug", "house", "car", "snowman", "duck", "arrow", "plane", "robot", "fish", "boat", "teapot",
)  # fmt: skip
SYNONYMS = {"ball": "sphere", "box": "cube", "ring": "torus", "cup": "mug"}
RELATIONS = ("on top of", "next to")
# The phrase that a caption adds for each motion; "still" is a motion too, and a picture has none.
MOTIONS = {
    "still": "standing still",
    "left": "moving left",
    "right": "moving right",
    "up": "moving up",
    "down": "moving down",
    "bouncing": "bouncing",
    "spinning": "spinning",
    "growing": "growing",
    "shrinking": "shrinking",
    "orbit": "orbiting camera",
}
# What a data set is of, and from which compositions; the order is that of their seeds.
Kind = Literal["images", "clips", "views", "starts"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS = ("train", "held-out", "all")


@dataclass(frozen=True)
class Composition:
    """One thing to show. `other*` and `relation` describe the second object, where there is one."""

    obj: str
    colour: str
    motion: str | None = None
    view: str | None = None
    relation: str | None = None
    other: str | None = None
    other_colour: str | None = None

    def caption(self) -> str:
        """The canonical prompt, such as "a red cube on top of a blue sphere" or "a blue duck, orbiting camera"."""
        text = f"a {self.colour} {self.obj}"
        if self.relation:
            text += f" {self.relation} a {self.other_colour} {self.other}"
        if self.motion:
            text += (", " if self.motion == "orbit" else " ") + MOTIONS[self.motion]
        if self.view:
            text += f", {self.view}"
        return text

    def without_view(self) -> Composition:
        return replace(self, view=None)

    @staticmethod
    def parse(prompt: str) -> Composition:
        """The composition that a prompt describes; words around it are ignored.

        Raises InputError when no colour followed by an object is found.
        """
        text = " ".join(re.findall(r"[a-z]+", prompt.lower()))
        for word, meaning in SYNONYMS.items():
            text = re.sub(rf"\b{word}\b", meaning, text)
        things = re.findall(rf"\b({'|'.join(COLOUR_NAMES)}) ({'|'.join(OBJECT_NAMES)})\b", text)
        if not things:
            raise InputError(
                "world caption", expected='a colour and an object, such as "a red cube"', got=prompt,
                hint=f"Objects: {', '.join(OBJECT_NAMES)}. Colours: {', '.join(COLOUR_NAMES)}.",
            )  # fmt: skip
        (colour, obj), *rest = things
        relation = next((r for r in RELATIONS if r in text), None) if rest else None
        motion = next((m for m, phrase in MOTIONS.items() if re.search(rf"\b{phrase}\b", text)), None)
        view = next((v for v in VIEW_WORDS if v in text), None)
        other_colour, other = rest[0] if relation else (None, None)
        return Composition(obj, colour, motion, view, relation, other, other_colour)


def vocabulary() -> list[str]:
    """Every word of the world's language, in a fixed order (the order is the tokenizer's: append, never insert)."""
    groups = (COLOUR_NAMES, OBJECT_NAMES, SYNONYMS, RELATIONS, MOTIONS.values(), VIEW_WORDS)
    phrases = ["a an the and with of", *(phrase for group in groups for phrase in group), ","]
    return list(dict.fromkeys(word for phrase in phrases for word in phrase.split()))


def is_held_out(c: Composition) -> bool:
    """Whether training must never see this composition (views aside, which do not count).

    Every object misses exactly one colour, whatever it does. Beyond that, one in ten (object, colour, motion) and one
    in ten ordered pairs are held out. The rule is arithmetic on names, so it is the same everywhere.
    """
    if _pair_held_out(c.obj, c.colour):
        return True
    if c.other and c.other_colour:
        key = f"{c.colour} {c.obj} {c.relation} {c.other_colour} {c.other}"
        return _pair_held_out(c.other, c.other_colour) or hashlib.sha256(key.encode()).digest()[0] % 10 == 0
    if c.motion:
        i, j, m = OBJECT_NAMES.index(c.obj), COLOUR_NAMES.index(c.colour), list(MOTIONS).index(c.motion)
        return (i + 3 * j + 7 * m) % 10 == 0
    return False


def _pair_held_out(obj: str, colour: str) -> bool:
    return COLOUR_NAMES.index(colour) == (3 * OBJECT_NAMES.index(obj) + 2) % len(COLOUR_NAMES)

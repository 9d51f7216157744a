"""A prompt of two things, in a relation that says where they stand. Imports no torch.

An image model that is told of both binds colours and parts to the wrong one, and from most sides one hides the other.
Made one by one and put where the words say, both are whole (as compositions of radiance fields are by layout: Po and
Wetzstein 2023, "Compositional 3D Scene Generation using Locally Conditioned Diffusion"; Cohen-Bar et al. 2023).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from shared.view_words import without_view_words

Relation = Literal["on top of", "next to"]
# Words for each relation, between two things that both begin with an article. The first thing is on top, or on the left
# as seen from the front.
RELATIONS: dict[str, Relation] = {"on top of": "on top of", "next to": "next to", "beside": "next to"}
THING = r"(?:an?|the) \S.*?"
TWO = re.compile(rf"({THING}) ({'|'.join(RELATIONS)}) ({THING})", re.IGNORECASE)


@dataclass(frozen=True)
class Things:
    """Prompts of two things, and how the first stands to the second."""

    prompts: tuple[str, str]
    relation: Relation


def things_of(prompt: str) -> Things | None:
    """The two things of a prompt such as "a red cube on top of a blue ball"; None where it is no such prompt, or names
    more of them."""
    found = TWO.fullmatch(" ".join(without_view_words(prompt).split()))
    if found is None or TWO.fullmatch(found[3]):
        return None
    return Things((found[1], found[3]), RELATIONS[found[2].lower()])

"""What a prompt leaves open, said: framing, light and detail, by rules, the same for the same seed. Imports no torch.

Large models show more when they are told more (Betker et al. 2023). What a prompt says itself stays as it is.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from shared.errors import InputError

LONGEST = 2000  # characters of a prompt


@dataclass(frozen=True)
class Aspect:
    """phrases: of which one is added. said_by: words that say something of it already. kinds: for which it counts."""

    phrases: tuple[str, ...]
    said_by: frozenset[str]
    kinds: frozenset[str] = frozenset({"image", "clip", "asset"})


SHOWN = frozenset({"image", "clip"})
ASPECTS = (
    Aspect(
        ("the whole of it in view", "seen from eye level", "seen from slightly above", "close up"),
        frozenset(
            {"view", "seen", "close", "closeup", "wide", "shot", "above", "below", "portrait", "macro", "aerial"}
        ),
        SHOWN,
    ),
    Aspect(
        ("in soft daylight", "in warm evening light", "in even studio light", "under an overcast sky"),
        frozenset({"light", "lit", "lighting", "daylight", "sunny", "sun", "sunset", "night", "dark", "sky", "shadow"}),
        SHOWN,
    ),
    Aspect(
        ("moving smoothly, the camera still", "the camera moving slowly to the right", "in one slow, steady motion"),
        frozenset({"camera", "moving", "moves", "motion", "bouncing", "spinning", "running", "slowly", "pan", "zoom"}),
        frozenset({"clip"}),
    ),
    Aspect(
        ("a single object on a plain background", "the whole object, standing free"),
        frozenset({"background", "object", "isolated"}),
        frozenset({"asset"}),
    ),
    Aspect(
        ("in sharp focus", "with fine detail", "with clear outlines"),
        frozenset({"focus", "detail", "detailed", "sharp", "blurred", "blurry", "sketch", "cartoon", "painting"}),
    ),
)


def expand(prompt: str, kind: str = "image", seed: int = 0) -> str:
    """The prompt, and after it a phrase for each aspect that it says nothing of.

    kind: "image", "clip" or "asset". Raises InputError for a prompt without words, and one too long for what is added.

    >>> expand("a red cube in the sun, in sharp focus", seed=1)
    'a red cube in the sun, in sharp focus, seen from slightly above'
    """
    words = set(re.findall(r"[^\W\d_]+", prompt.lower()))
    if not words:
        raise InputError("prompt", expected="some words", got=prompt)
    draw = random.Random(f"{seed} {kind} {prompt}")  # of texts the draws are the same everywhere
    chosen = [(aspect, draw.choice(aspect.phrases)) for aspect in ASPECTS]  # each drawn, whether it is added or not
    added = [phrase for aspect, phrase in chosen if kind in aspect.kinds and not words & aspect.said_by]
    return checked(", ".join([" ".join(prompt.split()).rstrip(" ,.;"), *added]))


def checked(prompt: str) -> str:
    """Raises InputError for one that is longer than a prompt may be."""
    if len(prompt) > LONGEST:
        raise InputError("the expanded prompt", expected=f"at most {LONGEST} characters", got=f"{len(prompt)}")
    return prompt

"""Prompts that say more: what they said stays, and the seed decides the rest."""

import pytest

from shared.models.prompts.expand import ASPECTS, expand


def test_the_seed_decides():
    assert expand("a red cube", seed=3) == expand("a red cube", seed=3)
    assert len({expand("a red cube", seed=seed) for seed in range(20)}) > 5


@pytest.mark.parametrize(("kind", "count"), [("image", 3), ("clip", 4), ("asset", 2)])
def test_one_phrase_for_each_aspect_of_a_kind(kind, count):
    added = expand("a red cube.", kind).removeprefix("a red cube, ")
    found = [phrase for aspect in ASPECTS for phrase in aspect.phrases if f", {phrase}," in f", {added},"]
    assert len(found) == count
    assert ", ".join(found) == added


@pytest.mark.parametrize(("word", "left"), [("sunset", 1), ("Close", 0), ("detailed", 4), ("camera", 2)])
def test_what_is_said_is_not_said_again(word, left):
    prompt = f"a red cube, {word}"
    assert not any(phrase in expand(prompt, "clip", seed) for phrase in ASPECTS[left].phrases for seed in range(9))


def test_what_is_said_is_what_it_was():
    """Spaces and the last full stop aside, nothing is lost."""
    assert expand("a  (red:1.3) cube\n on a chair .", seed=1).startswith("a (red:1.3) cube on a chair, ")
    assert expand("in the sun, sharp, seen through a door", seed=1) == "in the sun, sharp, seen through a door"

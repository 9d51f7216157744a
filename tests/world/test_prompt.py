"""The language of the world: what is said is what is meant, and what is held out."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InputError
from shared.models.prompts.vocabulary import learn_tokenizer
from shared.view_words import VIEW_WORDS
from world.dataset import draw_composition, say, visible
from world.prompt import (
    COLOUR_NAMES,
    KINDS,
    MOTIONS,
    OBJECT_NAMES,
    RELATIONS,
    SYNONYMS,
    Composition,
    is_held_out,
    vocabulary,
)

things = st.sampled_from(OBJECT_NAMES), st.sampled_from(COLOUR_NAMES)
singles = st.builds(
    Composition,
    *things,
    motion=st.none() | st.sampled_from(list(MOTIONS)),
    view=st.none() | st.sampled_from(VIEW_WORDS),
)
pairs = st.builds(
    Composition,
    *things,
    motion=st.none(),
    view=st.none() | st.sampled_from(VIEW_WORDS),
    relation=st.sampled_from(RELATIONS),
    other=things[0],
    other_colour=things[1],
)


@given(c=singles | pairs, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_captions_are_understood(c, seed):
    assert Composition.parse(c.caption()) == c
    assert Composition.parse(say(c, np.random.default_rng(seed))) == c


def test_words_around_are_ignored():
    parsed = Composition.parse("A photo of a RED  ball, that is bouncing; on grey")
    assert parsed == Composition("sphere", "red", motion="bouncing")


@pytest.mark.parametrize("prompt", ["", "a dog", "red", "a cube", "a cube red", "a redcube", "\x00"])
def test_no_colour_and_object_is_an_input_error(prompt):
    with pytest.raises(InputError, match="a colour and an object"):
        Composition.parse(prompt)


def test_every_word_of_every_caption_is_one_token():
    words = set(vocabulary())
    tokenizer = learn_tokenizer([" ".join(vocabulary())])
    for c in [
        *(Composition(o, k) for o, k in itertools.product(OBJECT_NAMES, COLOUR_NAMES)),
        *(Composition("cube", "red", motion=m, view=v) for m in MOTIONS for v in (None, *VIEW_WORDS)),
        *(Composition("cube", "red", relation=r, other="cone", other_colour="blue") for r in RELATIONS),
        *(Composition(s, "red") for s in SYNONYMS),
    ]:
        expected = c.caption().replace(",", " ,").split()
        assert set(expected) <= words
        assert tokenizer.tokenize(c.caption()) == [w + "</w>" for w in expected]


def test_every_object_misses_exactly_one_colour_and_colours_are_spread():
    missing = [(o, k) for o, k in itertools.product(OBJECT_NAMES, COLOUR_NAMES) if is_held_out(Composition(o, k))]
    assert sorted(o for o, _ in missing) == sorted(OBJECT_NAMES)
    counts = [sum(k == colour for _, k in missing) for colour in COLOUR_NAMES]
    assert min(counts) >= 2
    assert max(counts) <= 3


def test_a_tenth_of_the_motions_beyond_those():
    seen = [(o, k) for o, k in itertools.product(OBJECT_NAMES, COLOUR_NAMES) if not is_held_out(Composition(o, k))]
    held_out = [m for (o, k), m in itertools.product(seen, MOTIONS) if is_held_out(Composition(o, k, motion=m))]
    assert len(held_out) / (len(seen) * len(MOTIONS)) == pytest.approx(0.1, abs=0.01)
    # In one motion (moving right) the two rules choose the same compositions, so there is nothing beyond the first.
    counts = [held_out.count(motion) for motion in MOTIONS]
    assert sorted(counts)[0] == 0
    assert min(sorted(counts)[1:]) > 15


def test_a_tenth_of_the_pairs_beyond_those():
    rng = np.random.default_rng(0)
    drawn = [draw_composition(rng, kind="images", split="all", pairs=1.0) for _ in range(3000)]
    assert all(c.relation for c in drawn)
    seen = [
        c
        for c in drawn
        if not is_held_out(Composition(c.obj, c.colour)) and not is_held_out(Composition(c.other, c.other_colour))
    ]
    assert 0.07 < np.mean([is_held_out(c) for c in seen]) < 0.13


@given(c=singles | pairs)
@settings(max_examples=200, deadline=None)
def test_views_do_not_count_for_the_split(c):
    assert is_held_out(c) == is_held_out(c.without_view()) == is_held_out(replace(c, view="back view"))


@pytest.mark.parametrize("kind", KINDS)
def test_draws_keep_to_their_split(kind):
    rng = np.random.default_rng(5)
    train = [draw_composition(rng, kind=kind, split="train") for _ in range(1500)]
    held_out = [draw_composition(rng, kind=kind, split="held-out") for _ in range(300)]
    assert not any(map(is_held_out, train))
    assert all(map(is_held_out, held_out))
    assert {c.obj for c in train} == set(OBJECT_NAMES)
    assert {c.colour for c in train} == set(COLOUR_NAMES)
    if kind in ("clips", "starts"):
        assert {c.motion for c in train} == set(MOTIONS)
        assert all(visible(c.obj, c.motion) for c in train + held_out)
        assert not visible("sphere", "spinning")
    else:
        # 0.4 are drawn, but more of the pairs are held out than of the others, and drawn anew
        assert np.mean([c.relation is not None for c in train]) == pytest.approx(0.35, abs=0.03)
        assert all(c.obj != c.other and c.colour != c.other_colour for c in train if c.relation)
        singles = [c for c in train if not c.relation]
        words = 0.8 if kind == "images" else 0.0
        assert np.mean([c.view is not None for c in singles]) == pytest.approx(words, abs=0.06)

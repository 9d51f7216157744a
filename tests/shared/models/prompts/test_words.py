"""Other forms of known words, and the nearest known ones."""

import pytest

from shared.models.prompts.words import fold, nearest
from world.prompt import vocabulary

WORLD = vocabulary()


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("cubes", "cube"), ("boxes", "box"), ("torus", None), ("buses", None), ("redder", "red"), ("reddest", "red"),
        ("bluer", "blue"), ("bounce", "bouncing"), ("bounces", "bouncing"), ("bounced", "bouncing"),
        ("spin", "spinning"), ("spins", "spinning"), ("moves", "moving"), ("grows", "growing"), ("planes", "plane"),
        ("plan", None), ("cared", None), ("kitten", None), ("s", None), ("", None), ("is", None),
    ],
)  # fmt: skip
def test_other_forms_are_folded(word, known):
    assert fold(word, set(WORLD)) == known


@pytest.mark.parametrize(("word", "known", "form"), [("eye", ["eyes"], "eyes"), ("wolves", ["wolf"], "wolf")])
def test_any_vocabulary_is_folded_into(word, known, form):
    assert fold(word, known) == form


def test_no_known_word_of_the_world_is_folded_into_another_by_chance():
    for word in WORLD:
        others = [other for other in WORLD if other != word]
        assert fold(word, others) is None, word


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("crimson", "red"), ("scarlet", "red"), ("navy", "blue"), ("sphear", "sphere"), ("snowmann", "snowman"),
        ("turquoise", "cyan"), ("gold", "yellow"), ("ivory", "white"),
        ("kitten", None), ("dragon", None), ("xyz", None),
    ],
)  # fmt: skip
def test_the_nearest_is_named_where_there_is_a_near_one(word, known):
    assert nearest(word, WORLD) == known

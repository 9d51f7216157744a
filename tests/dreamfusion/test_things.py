"""Which prompts are of two things, and which are not."""

import pytest

from dreamfusion.things import Things, things_of
from shared.view_words import VIEW_WORDS
from world.prompt import RELATIONS, Composition


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red cube on top of a blue ball", Things(("a red cube", "a blue ball"), "on top of")),
        ("A red house beside an old green tree", Things(("A red house", "an old green tree"), "next to")),
        (" a cat\nnext  to the dog of a king", Things(("a cat", "the dog of a king"), "next to")),
        ("a chair next to a table, back view", Things(("a chair", "a table"), "next to")),
        ("a red cube", None),
        ("a bird on a branch", None),
        ("red cubes next to a ball", None),
        ("a cube next to it", None),
        ("a cup on top of a plate on top of a table", None),
        ("a cup next to a plate next to a spoon next to a table", None),
    ],
)
def test_two_things_in_a_relation_between_articles(prompt, expected):
    assert things_of(prompt) == expected


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_pair_of_the_world_is_two_things(relation):
    pair = Composition("cube", "red", relation=relation, other="teapot", other_colour="blue")
    for view in (None, *VIEW_WORDS):
        prompt = pair.caption() if view is None else f"{pair.caption()}, {view}"
        assert things_of(prompt) == Things(("a red cube", "a blue teapot"), relation)

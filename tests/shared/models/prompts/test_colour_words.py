"""Colours by name, against scikit-image's CIELAB and CIE94."""

import numpy as np
import pytest
from PIL import ImageColor
from skimage.color import deltaE_ciede94, rgb2lab

from shared.models.prompts.colour_words import EVERYDAY, is_colour, nearest_colour
from world.prompt import COLOUR_NAMES

FAR = 22.0  # what two colours may differ by at most
WORDS = sorted({*EVERYDAY, *ImageColor.colormap})


def lab(word):
    return rgb2lab(np.array(ImageColor.getrgb(EVERYDAY.get(word, word))[:3]) / 255.0)


def distance(known, word):
    return float(deltaE_ciede94(lab(known), lab(word), kL=2, k1=0.048, k2=0.014))


@pytest.mark.parametrize(
    "known", [list(COLOUR_NAMES), ["teal", "maroon", "beige", "not a colour"]], ids=["world", "few"]
)
def test_every_colour_has_the_nearest_that_another_implementation_finds(known):
    colours = [other for other in known if is_colour(other)]
    for word in WORDS:
        distances = sorted((distance(other, word), other) for other in colours)
        least, best = distances[0]
        if abs(least - FAR) > 0.05:  # the two differ in the fourth digit of the white point
            assert nearest_colour(word, known) == (best if least < FAR else None), (word, distances[:2])


def test_a_known_colour_is_its_own_nearest():
    for word in COLOUR_NAMES:
        assert nearest_colour(word, COLOUR_NAMES) == word


@pytest.mark.parametrize(("word", "known"), [("navy", "blue"), ("scarlet", "red"), ("gold", "yellow"), ("rust", "red")])
def test_it_is_the_colour_that_people_would_say(word, known):
    assert nearest_colour(word, ["black", "blue", "red", "yellow", "white"]) == known


def test_what_is_no_colour_has_none():
    assert not is_colour("kitten")
    assert not is_colour("")
    assert nearest_colour("kitten", COLOUR_NAMES) is None
    assert nearest_colour("crimson", ["cube", "kitten"]) is None
    assert nearest_colour("crimson", []) is None
    assert nearest_colour("white", ["black"]) is None  # far


def test_everyday_words_differ_from_css_only_where_it_says_so():
    both = {word for word in EVERYDAY if word in ImageColor.colormap}
    assert both == {"azure", "violet"}

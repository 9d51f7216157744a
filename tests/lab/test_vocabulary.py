"""What the user hears about words that a model does not know, and of those that it does."""

import json

from lab.main import main
from lab.vocabulary import grouped, unknown_words, with_nearest
from shared.models.prompts.text import TextConditioner
from tests.tiny import tiny_text
from world.prompt import COLOUR_NAMES, OBJECT_NAMES, vocabulary


def test_unknown_words_are_one_short_line_with_the_nearest_known():
    words, lines = unknown_words(TextConditioner(*tiny_text()), "a crimson dragon moving left", "blurry dragon")
    assert words == ["crimson", "dragon", "blurry"]
    assert lines == [
        'this model does not know "crimson" (nearest: red), "dragon", "blurry" and leaves them out; see: kinoform words'
    ]


def test_near_words_take_the_place_of_unknown_ones():
    known = ["a", "red", "cube", "sphere", "bouncing"]
    prompt, replaced = with_nearest("a Crimson sphear and (cubes:1.5) bounces, KITTEN", known)
    assert prompt == "a red sphere and (cubes:1.5) bounces, KITTEN"
    assert replaced == {"crimson": "red", "sphear": "sphere"}
    assert with_nearest("a crimson kitten", []) == ("a crimson kitten", {})


def test_other_forms_of_known_words_are_understood():
    text = TextConditioner(*tiny_text())
    assert unknown_words(text, "Red cubes bounce") == ([], [])
    assert text.known_part("Red cubes bounce") == "red cube bouncing"


def test_known_words_need_no_warning():
    assert unknown_words(TextConditioner(*tiny_text()), "a red cube, front view", "") == ([], [])


def test_a_megabyte_of_unknown_words_is_still_one_short_line():
    prompt = " ".join(f"{chr(97 + i % 26)}{chr(97 + i // 26)}x" * 9 for i in range(600))
    words, (line,) = unknown_words(TextConditioner(*tiny_text()), prompt)
    assert len(words) == 600
    assert len(line) < 200


def test_the_whole_world_is_grouped():
    groups = grouped(vocabulary())
    assert groups["colours"] == list(COLOUR_NAMES)
    assert groups["objects"][: len(OBJECT_NAMES)] == list(OBJECT_NAMES)
    assert groups["relations"] == ["on top of", "next to"]
    assert set(groups["words"]) == {"a", "an", "the", "and", "with", ","}


def test_another_vocabulary_is_one_list():
    assert grouped(["dog", "cat", "runs"]) == {"words": ["dog", "cat", "runs"]}


def test_words_lists_what_a_model_knows(capsys):
    assert main(["words"]) == 0
    out = capsys.readouterr().out
    assert "colours: red, orange" in out
    assert max(map(len, out.splitlines())) <= 110
    assert main(["words", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"]["views"][0] == "front view"


def test_words_of_no_model_is_one_line(tmp_path, capsys):
    (tmp_path / "tokenizer").mkdir()
    assert main(["words", "--model", str(tmp_path)]) == 2
    assert main(["words", "--model", "no-such-folder"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2

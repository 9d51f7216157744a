"""What the user hears about words that a model does not know."""

from lab.console import Console
from lab.vocabulary import known, unknown_words
from shared.text import TextConditioner
from shared.world.prompt import COLOUR_NAMES, OBJECT_NAMES, vocabulary
from tests.tiny import tiny_text


def test_unknown_words_are_named_with_what_is_known_and_the_way_out(capsys):
    console = Console()
    words = unknown_words(console, TextConditioner(*tiny_text()), "a red dragon moving left", "blurry dragon")
    assert words == ["dragon", "blurry"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kinoform: warning: ")
    for part in ("'dragon', 'blurry'", "objects: sphere, cube", "colours: red", "moving left", "--model"):
        assert part in line
    assert "purple" not in line
    assert len(console.warnings) == 1


def test_known_words_need_no_warning(capsys):
    assert unknown_words(Console(), TextConditioner(*tiny_text()), "a red cube, front view", "") == []
    assert capsys.readouterr().err == ""


def test_a_megabyte_of_unknown_words_is_still_one_short_line(capsys):
    prompt = " ".join(f"{chr(97 + i % 26)}{chr(97 + i // 26)}x" for i in range(600))
    assert len(unknown_words(Console(), TextConditioner(*tiny_text()), prompt)) == 600
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 1000


def test_the_whole_world_is_grouped():
    text = known(vocabulary())
    assert f"colours: {', '.join(COLOUR_NAMES)}" in text
    assert all(name in text for name in OBJECT_NAMES)
    assert "relations: on top of, next to" in text


def test_another_vocabulary_shows_its_first_words():
    assert known(["dog", "cat", "runs"]) == "dog, cat, runs"
    assert known([f"word{i}" for i in range(50)]).endswith("word19 and 30 more")

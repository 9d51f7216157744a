"""What a training says of its data, and warns of."""

import pytest

from lab.show.console import Console
from lab.training.data_look import captions_of, look, warn_of_length, warn_of_words
from shared.errors import InputError
from shared.models.prompts.text import TextConditioner
from tests.tiny import tiny_text
from tests.video.tiny import write_clips


def test_the_data_is_said_in_a_line(tmp_path, capsys):
    found = look(Console(), write_clips(tmp_path / "data"))
    assert captions_of(found) == [f"a red cube moving {way}" for way in ("left", "right", "up", "down")]
    assert "4 clips, 64x48, 10 frames at 8 fps, 8 words" in capsys.readouterr().err


def test_data_that_cannot_be_used_is_refused(tmp_path):
    for clip in (write_clips(tmp_path / "data") / "clips").iterdir():
        clip.write_bytes(b"")
    with pytest.raises(InputError, match="got 4 of 4"):
        look(Console(), tmp_path / "data")


def test_captions_too_long_for_a_prompt_are_counted():
    console = Console()
    warn_of_length(console, ["a b c", "a, b"], 5)
    assert console.warnings == []
    warn_of_length(console, ["a b c d e", "a, b c", "a"], 5)
    assert "2 of 3 captions are longer than the 3 words" in console.warnings[0]
    assert "up to 5" in console.warnings[0]


def test_words_that_a_model_lacks_are_named_once():
    console, text = Console(), TextConditioner(*tiny_text())
    warn_of_words(console, ["a red cube"] * 2, text)
    assert console.warnings == []
    warn_of_words(console, ["a striped zebra", "a red zebra"], text)
    assert "leaves them out: 'striped', 'zebra'. Train its image stage" in console.warnings[0]

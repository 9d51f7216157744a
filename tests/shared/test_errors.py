import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError, KinoformError, ModelError, OutputError, printable


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("frames", expected="1 to 64", got=0), "frames: expected 1 to 64, got 0"),
        (InputError("frames", expected="1 to 64"), "frames: expected 1 to 64"),
        (InputError("frames", got=0), "frames: got 0"),
        (InputError("no such file.", hint="Look again."), "no such file. Look again."),
        (InputError("key", expected="a", got="b", hint="Did you mean a?"), "key: expected a, got b. Did you mean a?"),
        (KinoformError("it failed"), "it failed"),
        (InputError("prompt", got="a\nb\tc\x1b[31m"), r"prompt: got a\nb\tc\x1b[31m"),
        (InputError("name", got="caf\u00e9 \u65e5\u672c"), "name: got caf\u00e9 \u65e5\u672c"),
        (InputError("name", got="\ud800"), r"name: got \ud800"),
    ],
)
def test_a_line_says_what_is_wrong(error: KinoformError, line: str) -> None:
    assert str(error) == line


def test_exit_codes() -> None:
    assert [e.exit_code for e in (KinoformError, OutputError, InputError, ModelError)] == [1, 1, 2, 2]


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_any_text_becomes_one_short_line(what: str, got: str) -> None:
    line = str(InputError(what, got=got))
    assert len(line.splitlines()) <= 1
    assert not {unicodedata.category(c) for c in line} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    line.encode("utf-8")  # a terminal can show it


def test_a_megabyte_is_shortened_and_keeps_both_ends() -> None:
    line = str(InputError("prompt", got="start" + "x" * 1_000_000 + "end"))
    assert len(line) < 120
    assert "start" in line
    assert line.endswith("end")


def test_an_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ModelError("unet", expected="a tensor", got=3, hint="Look.")))
    assert type(error) is ModelError
    assert str(error) == "unet: expected a tensor, got 3. Look."


def test_what_would_steer_a_terminal_is_shown_and_not_done() -> None:
    assert printable("a\x1b]0;title\x07b\x1b[2J") == r"a\x1b]0;title\x07b\x1b[2J"
    assert printable("\u202egpj.exe\u2066\x9b31m\r\n\u2028\ud800") == r"\u202egpj.exe\u2066\x9b31m\r\n\u2028\ud800"
    plain = "a b\xa0c\u3000\u65e5\u672c caf\u00e9 \U0001f986 \u2764\ufe0f \\x1b"
    assert printable(plain) == plain

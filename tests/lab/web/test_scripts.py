"""Data that are scripts: nothing in them ends the script, and they say what was meant."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.web.scripts import call, called_with, json_text, plain

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--",
    "]]>",
    "\u2028\u2029",
    '"); alert(1); ("',
    "\\",
    "\ud800",
    "\0",
    "🦆",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_stay_texts(text):
    script = call("items", json_text({"prompt": text, text: 1}))
    assert script.isascii()
    assert not set(b"<>") & set(script)
    assert script.count(b"\n") == 1
    assert called_with(script) == {"prompt": text, text: 1}


@settings(max_examples=25)
@given(st.recursive(st.none() | st.booleans() | st.text() | st.integers(-(2**53) + 1, 2**53 - 1), st.lists))
def test_what_goes_in_comes_out(value):
    assert called_with(call("state", json_text(value))) == value


def test_numbers_that_javascript_does_not_hold_are_texts():
    assert plain([2**53 - 1, 2**53, -(2**63), math.inf, 0.5, True]) == [
        2**53 - 1,
        str(2**53),
        str(-(2**63)),
        "inf",
        0.5,
        True,
    ]
    assert plain({"a": math.nan, 1: (2, 3)}) == {"a": "nan", "1": [2, 3]}
    json.loads(json_text({"x": math.nan}))


@pytest.mark.parametrize(
    "script", [b"", b"alert(1)", b'kinoform.items(JSON.parse("[1]"));alert(1)\n', b"kinoform.items([1])\n"]
)
def test_other_scripts_are_not_read(script):
    with pytest.raises(ValueError):
        called_with(script)

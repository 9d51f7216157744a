from pathlib import Path

import pytest

from shared.artifacts.json_text import MAX_BYTES, MAX_DEPTH, parse_json, parse_object, read_json_file
from shared.errors import InputError


def test_what_is_json_comes_through() -> None:
    assert parse_json('{"a": [1, 2.5, "é", null, true]}', "x") == {"a": [1, 2.5, "é", None, True]}
    assert parse_json(b"\xef\xbb\xbf[]", "x") == []
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(deep, "x") is not None
    assert parse_json('"' + "[" * 200 + '"', "x") == "[" * 200


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 65 + "]" * 65, "more than 64 lists or objects in each other"),
        ("[" * 100_000, "more than 64"),
        ('{"a":' * 900 + "1" + "}" * 900, "more than 64"),
        ("NaN", "NaN, which is no number of JSON's"),
        ("[-Infinity]", "-Infinity"),
        ("1e999", "1e999, which is beyond all numbers"),
        ("1" * 10_000, "integer"),
        ("{", "Expecting property name"),
        (b"\xff", "decode"),
    ],
)
def test_what_is_not_is_one_line(text: str | bytes, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_json(text, "record x", expected="a record")
    assert str(caught.value).startswith("record x: expected a record, got ")
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_object_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a JSON object, got list"):
        parse_object("[]", "x")
    file = tmp_path / "a.json"
    with pytest.raises(InputError, match=r"a\.json: expected a JSON object, got No such file"):
        read_json_file(file)
    file.write_text('{"a": 1}')
    assert read_json_file(file) == {"a": 1}
    with file.open("wb") as opened:
        opened.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match="bytes"):
        read_json_file(file)

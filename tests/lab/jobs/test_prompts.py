"""Files of prompts."""

import pytest

from lab.jobs.prompts import Asked, read_prompts
from shared.errors import InputError


def written(tmp_path, data):
    file = tmp_path / "prompts.txt"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(file)


def test_lines_are_prompts_with_what_they_bring(tmp_path):
    text = "\ufeff# twenty of them\r\na red cube\r\n\n  a duck | blurry  \n#a | b\na car | | 7\nein Würfel | grau | 0"
    assert read_prompts(written(tmp_path, text)) == [
        Asked("a red cube"),
        Asked("a duck", "blurry"),
        Asked("a car", None, 7),
        Asked("ein Würfel", "grau", 0),
    ]


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"a cube\na caf\xe9\n", ("line 2", "UTF-8", "0xe9")),
        ("a | b | seven", ("line 1", "a seed", "got seven")),
        ("a | b | -1", ("line 1", "a seed")),
        ("a | b | 1 | 2", ("line 1", "prompt | negative | seed")),
        ("a cube\n | b", ("line 2", "a prompt")),
        ("# nothing\n\n", ("at least one prompt", "none")),
    ],
)
def test_a_wrong_line_is_named(tmp_path, data, parts):
    with pytest.raises(InputError) as caught:
        read_prompts(written(tmp_path, data))
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize("path", ["no-such-file.txt", ".", "a\0b"])
def test_no_file_is_one_line(path):
    with pytest.raises(InputError, match="a text file"):
        read_prompts(path)

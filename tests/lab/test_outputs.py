"""What is refused before any work, and that asking leaves no trace."""

import os

import numpy as np
import pytest

from lab.main import main
from lab.outputs import check_clip, check_folder, parse_size
from shared.artifacts.media import read_image, write_clip
from shared.errors import InputError


def test_a_folder_is_asked_for_and_not_made(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    for name in ("full", "new", "new/deeper/"):
        assert check_folder("--out", f"{tmp_path}/{name}") == tmp_path / name
    for text, words in (
        ("", "a folder, got"),
        ("a\0b", "a file name"),
        (f"{tmp_path}/file", "A file of that name is there"),
        (f"{tmp_path}/file/below", "not a file among them"),
        ("/proc/new", "a place that may be written to"),
    ):
        with pytest.raises(InputError, match=f"--out: expected .*{words}"):
            check_folder("--out", text)
    assert sorted(os.listdir(tmp_path)) == ["file", "full"]
    assert os.listdir(tmp_path / "full") == ["mine"]


def test_a_rate_that_a_format_cannot_hold_is_refused(tmp_path):
    for name, most in (("a.gif", 50), ("a.webp", 90), ("a.apng", 90), ("a.mp4", 240)):
        check_clip(f"{tmp_path}/{name}", most)
        write_clip(tmp_path / name, np.zeros((1, 8, 8, 3), np.uint8), most)
        if most < 240:
            with pytest.raises(InputError, match=f"fps for .*at most {most}"):
                check_clip(f"{tmp_path}/{name}", most + 1)


def test_the_folders_of_an_output_are_made(model, tmp_path, capsys):
    path = tmp_path / "no" / "such" / "a.png"
    arguments = ["image", "a red cube", "--model", str(model), "--steps", "1", "-o", str(path)]
    assert main([*arguments, "--guidance-scale", "nan"]) == 2
    assert os.listdir(tmp_path) == []
    assert main(arguments) == 0
    assert read_image(path).ndim == 3
    assert os.listdir(path.parent) == ["a.png"]


def test_sizes():
    assert [parse_size(text) for text in ("1k", "1.5 GiB", "2GB", "7")] == [1024, 3 * 2**29, 2**31, 7]
    for text in ("", "many", "-1G", "0"):
        with pytest.raises(InputError):
            parse_size(text)

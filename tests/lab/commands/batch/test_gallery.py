"""`kinoform gallery`: a page of what is there; nothing where there is nothing."""

import json

import numpy as np
import pytest

from lab.main import main
from shared.artifacts.media import TAG, write_clip, write_image
from shared.artifacts.run_record import RunRecord
from tests.lab.command import is_refusal

PIXELS = np.full((16, 16, 3), 100, np.uint8)


@pytest.fixture
def folder(tmp_path):
    for kind, name in (("image", "a.png"), ("image", "below/b.png"), ("clip", "c.mp4")):
        record = RunRecord.of_run(kind, {"prompt": "a cube", "model": "world", "seed": 1}, 1, "world", {})
        texts = {TAG: record.to_json()}
        write_image(tmp_path / "out" / name, PIXELS, texts) if kind == "image" else write_clip(
            tmp_path / "out" / name, PIXELS[None].repeat(3, 0), 8, texts
        )
    return tmp_path / "out"


def test_it_makes_a_page_and_says_where(folder, capsys):
    assert main(["gallery", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}/index.html: 2 images, 1 clip\n"
    assert "<title>out</title>" in (folder / "index.html").read_text("utf-8")
    assert main(["gallery", str(folder), "--title", "Cubes & co", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["outputs"] == [str(folder / "index.html")]
    assert (result["results"], result["steps"]) == (3, {"image": 2, "clip": 1})
    assert "<title>Cubes &amp; co</title>" in (folder / "index.html").read_text("utf-8")


def test_the_folder_one_is_in(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["gallery", "."]) == 0
    assert "<title>out</title>" in (folder / "index.html").read_text("utf-8")


def test_what_is_refused(folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for arguments, parts in (
        ([tmp_path / "gone"], ("FOLDER", "a folder that exists")),
        ([tmp_path / "file"], ("FOLDER", "It is a file")),
        ([tmp_path / "empty"], ("expected files made by kinoform, there or below, got none", "kinoform image")),
        ([folder, "--title", " "], ("--title", "some words")),
        ([], ("FOLDER",)),
    ):
        assert is_refusal(main(["gallery", *map(str, arguments)]), capsys.readouterr().err, *parts), arguments
    assert not list((tmp_path / "empty").iterdir())
    (folder / "index.html").write_text("<title>my own</title>")
    assert is_refusal(
        main(["gallery", str(folder)]), capsys.readouterr().err, "expected no page there", "another folder"
    )
    assert (folder / "index.html").read_text() == "<title>my own</title>"

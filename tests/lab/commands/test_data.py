"""`kinoform data`: what a person is told about a folder, and captions from file names."""

import json

import numpy as np
from PIL import Image

from lab.main import main
from tests.lab.command import is_refusal
from tests.shared.training.messy import write_messy


def test_check_says_what_is_there_and_draws_a_sheet(tmp_path, capsys):
    write_messy(tmp_path / "data")
    sheet = tmp_path / "sheet.png"
    assert main(["data", "check", str(tmp_path / "data"), "--sheet", str(sheet)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "31 pictures, 9 clips, 40x24" in out[0]
    for words in ("left out     4 of 44", "to train     autoencoder, image, video, scorer", "cut.mp4 (damaged"):
        assert any(words in line for line in out), words
    assert len(out) < 40
    assert np.asarray(Image.open(sheet)).std() > 10


def test_check_as_json_has_every_number(tmp_path, capsys):
    write_messy(tmp_path / "data", broken=False)
    assert main(["data", "check", str(tmp_path / "data"), "--json"]) == 0
    survey = json.loads(capsys.readouterr().out)["survey"]
    assert (survey["pictures"], survey["clips"], survey["width"]["most"], survey["left_out"]) == (31, 9, 40, [])
    assert survey["stages"] == ["autoencoder", "image", "video", "scorer"]


def test_a_folder_that_would_be_refused_is_shown_and_refused(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"")
        (tmp_path / f"{name}.txt").write_text("\x1b]0;title\x07 cat")
    code = main(["data", "check", str(tmp_path), "--sheet", str(tmp_path / "sheet.png")])
    out, err = capsys.readouterr()
    assert "left out     2 of 2" in out
    assert is_refusal(code, err.splitlines()[-1], "at most 10%", "got 2 of 2", "a.png (an empty file)")
    assert "\x1b" not in out + err
    assert not (tmp_path / "sheet.png").exists()


def test_control_characters_of_captions_do_not_reach_the_terminal(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text("file,caption,x\na.png,\x1b[2J,\x1b\n")
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "\x1b" not in "".join(capsys.readouterr())


def test_captions_come_from_names_when_asked_for(tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    for name in ("clips/red_cube-2.png", "chair.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert is_refusal(main(["data", "check", str(tmp_path)]), capsys.readouterr().err, "2 files without a caption")
    assert main(["data", "captions", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert lines == [
        {"file": "chair.png", "caption": "chair"}, {"file": "clips/red_cube-2.png", "caption": "red cube 2"}
    ]  # fmt: skip
    assert main(["data", "check", str(tmp_path)]) == 0
    capsys.readouterr()
    assert is_refusal(main(["data", "captions", str(tmp_path)]), capsys.readouterr().err, "captions already")


def test_wrong_input_is_one_line(tmp_path, capsys):
    for arguments, part in [
        (["data", "check", str(tmp_path / "none")], "a folder that exists"),
        (["data", "check", str(tmp_path)], "captions.jsonl"),
        (["data", "check", str(tmp_path), "--sheet", "a.txt"], ".png"),
        (["data", "captions", str(tmp_path)], "pictures or clips"),
    ]:
        assert is_refusal(main(arguments), capsys.readouterr().err, part)

"""The numbers of a data folder, against those it was made with."""

import json

import numpy as np
import pytest
from PIL import Image

from shared.artifacts.media import write_clip, write_image
from shared.training.data.captions import find_sources
from shared.training.data.groups import read_data
from shared.training.data.sheet import data_sheet
from shared.training.data.survey import Spread, survey, survey_line
from tests.shared.training.messy import write_messy

RNG = np.random.default_rng(0)


def smooth(*shape):
    small = Image.fromarray(RNG.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    return np.asarray(small.resize(shape[::-1], Image.Resampling.BICUBIC))


@pytest.fixture
def data(tmp_path):
    first, other = smooth(60, 80), smooth(40, 40)
    write_image(tmp_path / "a.png", first)
    write_image(tmp_path / "equal.png", first)
    write_image(tmp_path / "alike.jpg", first)
    write_image(tmp_path / "other.png", other)
    for name, count in (("x.mp4", 9), ("y.mp4", 5)):
        write_clip(tmp_path / name, np.stack([smooth(32, 64)] * count), 12)
    captions = ["A cat's nap", "a Cat", "a cat", "", "two cats run", "two cats run"]
    files = ["a.png", "equal.png", "alike.jpg", "other.png", "x.mp4", "y.mp4"]
    lines = [json.dumps({"file": f, "caption": c}) for f, c in zip(files, captions, strict=True)]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    write_image(tmp_path / "unnamed.png", other)
    return tmp_path


def test_numbers_are_those_of_the_folder(data):
    seen = survey(data)
    assert (seen.pictures, seen.clips) == (4, 2)
    assert (seen.width, seen.height) == (Spread(40, 72, 80), Spread(32, 50, 60))
    assert seen.aspect == Spread(1, 1.333, 2)
    assert (seen.frames, seen.fps) == (Spread(5, 7, 9), Spread(12, 12, 12))
    assert (seen.captions, seen.distinct_captions, seen.empty_captions) == (6, 5, 1)
    assert (seen.caption_words.least, seen.caption_words.most) == (0, 3)
    assert seen.frequent_words == (("a", 3), ("cat", 2), ("cats", 2), ("run", 2), ("two", 2), ("cat's", 1), ("nap", 1))
    assert (seen.words, seen.words_once) == (7, 2)
    assert seen.duplicates == (("a.png", "equal.png"),)
    assert seen.near_duplicates == (("a.png", "alike.jpg"),)
    assert (seen.left_out, seen.uncaptioned, seen.refusal) == ((), ("unnamed.png",), "")
    assert (
        seen.bytes
        == sum(f.stat().st_size for f in data.iterdir() if f.is_file() and f.suffix != ".jsonl")
        - (data / "unnamed.png").stat().st_size
    )
    assert seen.stages == ("autoencoder", "image", "video", "scorer")
    assert survey_line(seen) == (
        "4 pictures, 2 clips, 40x32 to 80x60, 5 to 9 (median 7) frames at 12 fps, 7 words; 1 without a caption"
    )


def test_the_line_names_what_is_left_out(tmp_path):
    write_messy(tmp_path / "data")
    line = survey_line(survey(tmp_path / "data"))
    assert line.startswith("31 pictures, 9 clips, 40x24, 6 frames at 8 fps, ")
    assert "; 4 left out: cut.png (cut short), empty.png (an empty file), cut.mp4 (" in line


def test_nothing_that_can_be_used_is_a_survey_all_the_same(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("a cat")
    seen = survey(tmp_path)
    assert seen.refusal
    assert seen.stages == ()
    assert "nothing that can be used" in survey_line(seen)


def test_the_sheet_shows_every_group(data):
    sheet = data_sheet(read_data(data))
    for source in find_sources(data):
        for entry in source.entries[:4]:
            colour = np.asarray(Image.open(data / entry["file"]).convert("RGB"))[10:30, 10:30].mean((0, 1))
            near = (np.abs(sheet.astype(int) - colour).max(-1) < 40).sum()
            assert near > 100, entry["file"]

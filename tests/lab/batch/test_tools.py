"""Tools: what they make, what their records say, and that a rerun is the same."""

import json

import numpy as np
import pytest
from PIL import Image

from lab.batch.step import Work
from lab.batch.tools import TOOLS, again, tool_of
from lab.jobs.events import Done, Failed
from lab.jobs.run import Context
from lab.main import main
from shared.artifacts.media import read_clip, read_image, write_clip
from shared.artifacts.run_record import read_record
from shared.artifacts.tag import TAG
from shared.errors import InputError
from tests.lab.batch.pictures import picture

BY_NAME = {tool.name: tool for tool in TOOLS}


def make(name, output, source, names=None, **values):
    tool = BY_NAME[name]
    key = next(iter(tool.takes))
    work = Work(tool.recipe.parse({key: str(source), **values}), output, names or {})
    *_, ended = tool.run([work], Context())
    if isinstance(ended, Failed):
        raise ended.error
    assert isinstance(ended, Done)
    return ended


def test_a_picture_is_enlarged_as_pillow_does(tmp_path):
    source = picture(tmp_path / "a.png", 3, size=8)
    make("upscale", tmp_path / "b.png", source, scale=3)
    wanted = Image.fromarray(read_image(source)).resize((24, 24), Image.Resampling.LANCZOS)
    assert np.array_equal(read_image(tmp_path / "b.png"), np.asarray(wanted))


def test_a_clip_is_enlarged_frame_by_frame_and_keeps_its_rate(tmp_path):
    record = read_record(picture(tmp_path / "a.png"))
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    write_clip(tmp_path / "a.apng", frames, 6, {TAG: record.to_json()})
    make("upscale", tmp_path / "b.apng", tmp_path / "a.apng")
    made = read_clip(tmp_path / "b.apng")
    assert made.frames.shape == (5, 16, 16, 3)
    assert made.fps == pytest.approx(6)


def test_a_description_has_the_record_of_what_it_describes(tmp_path):
    source = picture(tmp_path / "a.png", 7)
    make("describe", tmp_path / "b.json", source)
    said = json.loads((tmp_path / "b.json").read_text())
    assert (said["of"], said["prompt"]) == ("image", "number 7")
    assert said["record"] == read_record(source).model_dump(mode="json")
    assert "score" not in said  # the model that made it is not here


def test_a_record_names_its_source_as_it_is_told_and_keeps_what_that_was_made_from(tmp_path):
    source = picture(tmp_path / "a.png", 7)
    make("upscale", tmp_path / "b.png", source, {"source": "a.png"})
    record = read_record(tmp_path / "b.png")
    assert record.command == "upscale"
    assert record.recipe == {"source": "a.png", "scale": 2, "prompt": "number 7", "model": "no-such-model", "seed": 7}
    assert tool_of(record) is BY_NAME["upscale"]
    assert tool_of(read_record(source)) is None


def test_a_rerun_gives_the_same_bytes_from_wherever_it_is_asked(tmp_path, monkeypatch):
    source = picture(tmp_path / "out/a.png")
    made = tmp_path / "out/b.png"
    make("upscale", made, source, {"source": "a.png"})
    monkeypatch.chdir("/")
    assert main(["rerun", str(made)]) == 0
    assert (tmp_path / "out/b-rerun.png").read_bytes() == made.read_bytes()


def test_another_source_is_refused(tmp_path):
    source = picture(tmp_path / "a.png")
    make("upscale", tmp_path / "b.png", source)
    record = read_record(tmp_path / "b.png")
    picture(source, 1)
    with pytest.raises(InputError, match="expected the file it was made from, got another"):
        again(record, str(tmp_path / "c.png"), {})
    source.unlink()
    with pytest.raises(InputError, match="source: expected a file that exists"):
        again(record, str(tmp_path / "c.png"), {})


def test_what_is_no_picture_fails_alone(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    tool = BY_NAME["upscale"]
    sources = (tmp_path / "bad.png", picture(tmp_path / "good.png"))
    works = [Work(tool.recipe.parse({"source": str(s)}), tmp_path / f"{n}.png") for n, s in enumerate(sources)]
    ends = [event for event in tool.run(works, Context()) if isinstance(event, (Done, Failed))]
    assert [type(event) for event in ends] == [Failed, Done]


@pytest.mark.parametrize(("tool", "ending"), [("turntable", ".png"), ("upscale", ".glb"), ("describe", ".txt")])
def test_an_ending_that_a_tool_does_not_write_is_refused(tmp_path, tool, ending):
    with pytest.raises(InputError, match="expected a name ending in"):
        BY_NAME[tool].check(None, tmp_path / f"x{ending}")

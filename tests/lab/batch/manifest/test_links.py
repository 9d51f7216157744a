"""Which task takes whose output."""

import json

import pytest

from lab.batch.manifest import read_manifest
from shared.errors import InputError


@pytest.fixture
def read(tmp_path):
    def read(*jobs):
        (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
        return {task.id: task for task in read_manifest(tmp_path / "jobs.jsonl")}

    return read


PICTURE = {"prompt": "a", "kind": "image", "name": "p"}
CLIP = {"prompt": "a", "name": "c"}
ASSET = {"prompt": "a", "kind": "asset", "name": "s"}


def up(name, source, **more):
    return {"kind": "upscale", "name": name, "inputs": {"source": source}, **more}


def test_a_tool_that_keeps_what_it_is_given_keeps_its_sort_and_ending(read):
    tasks = read(
        *(up("c2", "c1"), up("c1", "c"), {**CLIP, "output": "x.GIF"}),
        *(up("p1", "p"), {**PICTURE, "output": "p.webp"}),
        *({**CLIP, "name": "frames", "output": "frames/"}, up("f1", "frames")),
    )
    assert {id: task.output for id, task in tasks.items()} == {
        "c2": "c2.gif", "c1": "c1.gif", "c": "x.GIF", "p1": "p1.webp", "p": "p.webp", "frames": "frames", "f1": "f1",
    }  # fmt: skip


def test_what_comes_before_takes_the_first_key_that_is_free(read, tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    clips = [{"kind": "clip"}, {"kind": "clip", "image": "x.png"}, {"kind": "clip", "inputs": {"image": "q"}}]
    tasks = read({**PICTURE, "then": clips}, {**PICTURE, "name": "q"})
    assert [dict(tasks[id].inputs) for id in ("p/clip", "p/clip-2", "p/clip-3")] == [
        {"image": "p"}, {"last": "p"}, {"image": "q", "last": "p"},
    ]  # fmt: skip
    assert tasks["p/clip-2"].recipe["image"] == str(tmp_path / "x.png")
    assert tasks["p/clip-2"].recipe["last"] is None


def test_a_job_may_take_what_a_later_one_or_a_chain_makes(read):
    tasks = read(
        {**CLIP, "inputs": {"image": "p/upscale", "last": "p"}},
        {**PICTURE, "then": [{"kind": "upscale"}]},
        {**ASSET, "then": [{"kind": "turntable", "then": [{"kind": "describe"}]}]},
    )
    assert list(tasks) == ["c", "p", "p/upscale", "s", "s/turntable", "s/turntable/describe"]
    assert [dict(task.inputs) for task in tasks.values()] == [
        {"image": "p/upscale", "last": "p"}, {}, {"source": "p"}, {}, {"asset": "s"}, {"source": "s/turntable"},
    ]  # fmt: skip
    assert [task.output for task in tasks.values()] == [
        "c.mp4", "p.png", "p-upscale.png", "s.glb", "s-turntable.mp4", "s-turntable-describe.json",
    ]  # fmt: skip


def test_an_input_stands_over_a_default(read, tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    jobs = [PICTURE, CLIP, {**CLIP, "name": "d", "inputs": {"image": "p"}}]
    (tmp_path / "jobs.json").write_text(json.dumps({"defaults": {"image": "x.png"}, "jobs": jobs}))
    tasks = read_manifest(tmp_path / "jobs.json")
    assert [task.recipe.get("image") for task in tasks] == [str(tmp_path / "x.png")] * 2 + [None]
    assert tasks[2].inputs == {"image": "p"}


@pytest.mark.parametrize(
    ("file", "output"),
    [("x.png", "u.png"), ("x.JPG", "u.jpg"), ("x.jpeg", "u.png"), ("x.bmp", "u.png"), ("x.mp4", "u.mp4"),
     ("x.mkv", "u.mp4"), ("x.gif", "u.gif"), ("folder", "u")],
)  # fmt: skip
def test_a_file_s_sort_is_that_of_its_ending(read, tmp_path, file, output):
    (tmp_path / "x.png").write_bytes(b"")
    if file == "folder":
        (tmp_path / file).mkdir()
    else:
        (tmp_path / file).write_bytes(b"")
    assert read({"kind": "upscale", "name": "u", "source": file})["u"].output == output


def test_a_picture_is_no_motion_adapter(read):
    with pytest.raises(InputError, match=r"expected a key that takes a file: image, last, got motion_adapter"):
        read(PICTURE, {**CLIP, "inputs": {"motion_adapter": "p"}})

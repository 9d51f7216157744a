"""Where manifests come from: lines of JSON, lines of text, folders of pictures, and defaults that are given along."""

import json
import os
import re

import pytest

from lab.batch.manifest import read_manifest
from shared.errors import InputError


def short(tasks, *keys):
    return [(task.id, task.place, *(task.recipe.get(key) for key in keys)) for task in tasks]


def test_a_job_a_line(tmp_path):
    manifest = tmp_path / "jobs.jsonl"
    lines = [{"prompt": "a cube"}, None, {"prompt": "a\u2028duck", "kind": "image", "name": "duck", "seed": 3}]
    text = "\ufeff" + "\r\n".join(json.dumps(line, ensure_ascii=False) if line else "" for line in lines)
    manifest.write_bytes(text.encode())
    assert short(read_manifest(manifest), "prompt", "seed") == [
        ("001-a-cube", "line 1", "a cube", 0),
        ("duck", "line 3", "a\u2028duck", 3),
    ]


def test_a_prompt_a_line(tmp_path):
    text = (
        "# prompts\na red cube\n\n  a duck | blurry \r\na car | | 7\na {red|green|blue} cube | {dark} | 2\na | b {c|d}"
    )
    (tmp_path / "prompts.TXT").write_text(text)
    tasks = read_manifest(tmp_path / "prompts.TXT", defaults={"kind": "image", "steps": 3})
    assert short(tasks, "negative", "seed", "steps") == [
        ("001-a-red-cube", "line 2", "", 0, 3),
        ("002-a-duck", "line 4", "blurry", 0, 3),
        ("003-a-car", "line 5", "", 7, 3),
        (tasks[3].id, "line 6", "{dark}", 2, 3),
        ("005-a", "line 7", "b {c|d}", 0, 3),
    ]
    assert re.fullmatch("004-a-(red|green|blue)-cube", tasks[3].id)
    assert [task.template for task in tasks] == [None, None, None, "a {red|green|blue} cube", None]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.txt", "a | b | 1 | 2", "line 1: expected prompt | negative | seed, got a | b | 1 | 2"),
        ("a.txt", "a\n | b", "line 2: expected a prompt, got | b"),
        ("a.txt", "a | b | one", "line 1, seed: expected a whole number of at least 0, got one"),
        ("a.txt", "# a\n\n", "jobs: expected at least one job"),
        ("a.txt", "caf\udce9", "line 1: expected text in UTF-8, got the byte 0xe9"),
        ("a.jsonl", "", "jobs: expected at least one job"),
        (
            "a.jsonl",
            '{"prompt": "a"}\n[1]',
            "line 2: expected a job as a JSON object, such as",
        ),
        ("a.jsonl", '{"prompt": "a"', "line 1: expected JSON, got Expecting ',' delimiter"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "line 1: expected JSON, got the key prompt twice"),
        ("a.json", '{"jobs":\n[}', "line 2: expected JSON"),
        ("a.json", '{"jobs": [], "jobs": []}', "manifest: expected JSON, got the key jobs twice"),
        ("a.yaml", "", "manifest: expected keys with values: version, defaults, matrix, jobs, got an empty file"),
        ("a.md", "a", "manifest /"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, name, text, line):
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        read_manifest(tmp_path / name)
    assert str(caught.value).startswith(line), caught.value


def test_what_is_not_there_or_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    parts = {
        "none.yaml": "No such file",
        "none": "no such file",
        "a.txt": "a folder or device",
        "a\0.yaml": "null byte",
    }
    for name, part in parts.items():
        with pytest.raises(InputError, match=part):
            read_manifest(tmp_path / name)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for name in ("b_red-cube.png", "a.JPG", "c.webp", ".hidden.png", "below/d.png", "notes.md"):
        (folder / name).write_bytes(b"")
    (folder / "a.txt").write_text("a duck\n that {swims|flies}\n")
    (folder / "c.txt").write_text("")
    return folder


def test_a_picture_a_job(pictures):
    tasks = read_manifest(pictures)
    first = tasks[0].recipe["prompt"]
    assert first in ("a duck that swims", "a duck that flies")
    assert tasks[0].template == "a duck that {swims|flies}"
    assert short(tasks, "prompt", "image") == [
        ("001-" + first.replace(" ", "-"), "picture a.JPG", first, str(pictures / "a.JPG")),
        ("002-b-red-cube", "picture b_red-cube.png", "b red cube", str(pictures / "b_red-cube.png")),
        ("003-c", "picture c.webp", "c", str(pictures / "c.webp")),
    ]


def test_an_index_has_the_captions(pictures):
    (pictures / "metadata.jsonl").write_text('{"file_name": "c.webp", "text": "a car"}')
    assert [task.recipe["prompt"] for task in read_manifest(pictures)] == ["a", "b red cube", "a car"]


def test_a_tool_takes_pictures_without_a_prompt(pictures):
    tasks = read_manifest(pictures, defaults={"kind": "upscale", "scale": 3, "tags": ["x"]})
    assert [(task.id, task.output, task.recipe) for task in tasks] == [
        ("001-upscale", "001-upscale.jpg", {"source": str(pictures / "a.JPG"), "scale": 3}),
        ("002-upscale", "002-upscale.png", {"source": str(pictures / "b_red-cube.png"), "scale": 3}),
        ("003-upscale", "003-upscale.webp", {"source": str(pictures / "c.webp"), "scale": 3}),
    ]


def test_folders_that_are_refused(pictures, tmp_path):
    with pytest.raises(
        InputError, match=r"kind: expected one that takes a picture: clip, image, upscale, describe, got asset"
    ):
        read_manifest(pictures, defaults={"kind": "asset"})
    with pytest.raises(InputError, match=r"expected pictures: .png, .*, got none"):
        read_manifest(tmp_path)
    (pictures / "a.txt").write_text("{a")
    with pytest.raises(InputError, match=r"picture a.JPG, prompt, character 1: "):
        read_manifest(pictures)


def test_defaults_given_along_stand_over_those_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "batch.yaml").write_text(
        "defaults: {steps: 5, fps: 6, kind: image}\njobs: [{prompt: a}, {prompt: b, steps: 7, kind: clip}]"
    )
    given = {"steps": 9, "kind": "clip", "tags": ["t"], "image": "x.png"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.png").write_bytes(b"")
    tasks = read_manifest("batch.yaml", defaults=given)
    seen = [(task.step, task.recipe["steps"], task.recipe["fps"], task.tags, task.recipe["image"]) for task in tasks]
    picture = str(tmp_path / "x.png")
    assert seen == [("clip", 9, 6, ("t",), picture), ("clip", 7, 6, ("t",), picture)]
    with pytest.raises(InputError, match=r"unknown key defaults.stps.*Did you mean steps\?"):
        read_manifest("batch.yaml", defaults={"stps": 9})

"""Manifests from their file to tasks: the whole of one, and what holds for any."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lab.batch.manifest import MOST_TASKS, read_manifest
from lab.batch.steps import steps
from lab.batch.task import Task
from shared.errors import InputError

EXAMPLE = """
version: 1
defaults: {kind: clip, steps: 20, tags: [night]}
matrix:
  prompt: ["a red ball bouncing", "a {red|blue} cube spinning"]
  seed: [0, 1, 2]
  model: [world]
jobs:
  - prompt: "a red cube"
    name: hero
    kind: image
    preset: draft
    size: 64x64
    seed: 3
    count: 4
    tags: [a]
    priority: 5
    output: "cubes/{name}.png"
    then:
      - kind: clip
        then: [{kind: upscale, scale: 2}]
      - {kind: describe}
  - prompt: "a duck"
    name: other
    kind: image
  - kind: clip
    prompt: "a red ball bouncing"
    inputs: {image: hero-1, last: other}
"""


def recipe(step, **values):
    return steps()[step].recipe.parse({"prompt": "x", **values}).resolved()


def chain(number, seed):
    """What becomes of the first job, the time of that number."""
    name = f"hero-{number}"
    told = {"tags": ("a",), "priority": 5}
    image = recipe("image", prompt="a red cube", steps=8, precision="fast", width=64, height=64, seed=seed)
    clip = recipe("clip", prompt="a red cube", seed=seed)
    upscale, describe = {"source": None, "scale": 2}, {"source": None}
    start = "jobs.0.then"
    return [
        Task(name, "image", image, {}, f"cubes/{name}.png", **told, place="jobs.0"),
        Task(f"{name}/clip", "clip", clip, {"image": name}, f"{name}-clip.mp4", **told, place=f"{start}.0"),
        Task(
            f"{name}/clip/upscale", "upscale", upscale, {"source": f"{name}/clip"}, f"{name}-clip-upscale.mp4", **told,
            place=f"{start}.0.then.0",
        ),
        Task(f"{name}/describe", "describe", describe, {"source": name}, f"{name}-describe.json", **told,
             place=f"{start}.1"),
    ]  # fmt: skip


def combined(number, prompt, seed, template=None):
    words = prompt.replace(" ", "-")
    values = recipe("clip", prompt=prompt, steps=20, seed=seed)
    id = f"{number:03}-{words}"
    return Task(id, "clip", values, {}, f"{id}.mp4", template, ("night",), 0, "matrix")


def test_a_manifest_is_these_tasks(tmp_path):
    manifest = tmp_path / "batch.yaml"
    manifest.write_text(EXAMPLE)
    both = recipe("clip", prompt="a red ball bouncing", steps=20)
    night, cube = ("night",), "a {red|blue} cube spinning"
    assert read_manifest(manifest) == [
        *(task for number in (1, 2, 3, 4) for task in chain(number, seed=number + 2)),
        Task("other", "image", recipe("image", prompt="a duck", steps=20), {}, "other.png", None, night, 0, "jobs.1"),
        Task(
            "006-a-red-ball-bouncing", "clip", both, {"image": "hero-1", "last": "other"},
            "006-a-red-ball-bouncing.mp4", None, night, 0, "jobs.2",
        ),
        *(combined(7 + seed, "a red ball bouncing", seed) for seed in (0, 1, 2)),
        combined(10, "a red cube spinning", 0, cube),
        combined(11, "a blue cube spinning", 1, cube),
        combined(12, "a red cube spinning", 2, cube),
    ]  # fmt: skip


def test_the_same_in_json_is_the_same(tmp_path):
    manifest, same = tmp_path / "batch.yaml", tmp_path / "batch.json"
    manifest.write_text(EXAMPLE)
    same.write_text(json.dumps(yaml.safe_load(EXAMPLE)))
    assert read_manifest(same) == read_manifest(manifest)


# What holds for any file.

words = st.sampled_from(
    ["prompt", "seed", "kind", "clip", "image", "upscale", "describe", "then", "jobs", "matrix", "defaults", "version",
     "count", "name", "output", "{name}.mp4", "{a|b}", "{{x}}", "inputs", "source", "size", "64x64", "draft", "../a"]
)  # fmt: skip
leaves = st.none() | st.booleans() | st.integers(-2, 3) | st.integers() | st.floats() | words | st.text(max_size=8)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def read_or_refuse(folder, ending, data):
    """The tasks, and the line with which the file is refused, which is the only way to fail."""
    manifest = folder / f"any{ending}"
    manifest.write_bytes(data)
    try:
        tasks = read_manifest(manifest)
    except InputError as error:
        return [], str(error)
    check(tasks)
    return tasks, ""


def check(tasks):
    """What holds for the tasks of any manifest."""
    assert 0 < len(tasks) <= MOST_TASKS
    ids = [task.id for task in tasks]
    outputs = [task.output.casefold() for task in tasks]
    assert len(set(ids)) == len(set(outputs)) == len(tasks)
    for task in tasks:
        parts = task.output.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert not set(task.output) & set('\\:\0<>|"?*')
        assert all(len(part.encode()) <= 200 for part in parts)
        step = steps()[task.step]
        assert all(task.recipe[key] is None for key in task.inputs)
        assert set(task.inputs) <= set(step.takes)
        assert set(task.inputs.values()) <= set(ids) - {task.id}
        filled = {**task.recipe, **dict.fromkeys(task.inputs, "x.png")}
        assert step.recipe.parse(filled).resolved() == filled


@given(st.sampled_from([".yaml", ".json", ".jsonl", ".txt"]), st.text(max_size=80))
def test_any_text_is_tasks_or_refused(tmp_path_factory, ending, text):
    read_or_refuse(tmp_path_factory.getbasetemp(), ending, text.encode("utf-8", "surrogatepass"))


@given(st.sampled_from([".yaml", ".json", ".jsonl", ".txt"]), st.binary(max_size=40))
def test_any_bytes_are_tasks_or_refused(tmp_path_factory, ending, data):
    read_or_refuse(tmp_path_factory.getbasetemp(), ending, data)


@given(anything)
def test_any_document_is_tasks_or_refused(tmp_path_factory, value):
    folder = tmp_path_factory.getbasetemp()
    read_or_refuse(folder, ".json", json.dumps(value).encode())
    read_or_refuse(folder, ".yaml", yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass"))


@given(st.dictionaries(words, anything, max_size=5), st.dictionaries(words, anything, max_size=5))
def test_any_job_is_tasks_or_refused(tmp_path_factory, job, matrix):
    folder = tmp_path_factory.getbasetemp()
    read_or_refuse(folder, ".jsonl", json.dumps({"prompt": "a duck", **job}).encode())
    read_or_refuse(folder, ".json", json.dumps({"jobs": [job], "matrix": {"prompt": "a duck", **matrix}}).encode())


prompts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}"), min_size=1, max_size=30).filter(
    lambda text: text.strip()
)
then = st.deferred(
    lambda: st.lists(
        st.fixed_dictionaries({"kind": st.sampled_from(["upscale", "describe"])})
        | st.fixed_dictionaries({"kind": st.just("upscale"), "then": then}),
        max_size=2,
    )
)
job = st.fixed_dictionaries(
    {"prompt": prompts, "then": then, "kind": st.sampled_from(["clip", "image"])},
    optional={
        "seed": st.integers(0, 2**62),
        "count": st.integers(1, 3),
        "tags": st.lists(prompts, max_size=2),
        "priority": st.integers(-9, 9),
        "steps": st.integers(1, 9),
        "output": st.sampled_from(["a/{index}-{kind}", "{name}-{seed}-{prompt}"]),
    },
)


@given(st.lists(job, min_size=1, max_size=4), st.lists(prompts, max_size=2, unique=True))
def test_a_right_manifest_is_read(tmp_path_factory, jobs, matrix):
    for one in jobs:
        if "output" in one:
            one["output"] += {"clip": ".mp4", "image": ".png"}[one["kind"]]
    said = {"jobs": jobs, **({"matrix": {"prompt": matrix, "seed": [1, 2]}} if matrix else {})}
    tasks, _ = read_or_refuse(tmp_path_factory.getbasetemp(), ".json", json.dumps(said).encode())

    def links(steps):
        return sum(1 + links(step.get("then", [])) for step in steps)

    expected = sum(one.get("count", 1) * (1 + links(one["then"])) for one in jobs) + 2 * len(matrix)
    assert len(tasks) == expected
    roots = [task for task in tasks if "/" not in task.id]
    assert [task.recipe["prompt"] for task in roots] == [
        *(one["prompt"] for one in jobs for _ in range(one.get("count", 1))),
        *(prompt for prompt in matrix for _ in range(2)),
    ]


@pytest.mark.parametrize(
    "prompt", ["<script>alert(1)</script>", '"it\'s" `a`', "🦆 duck", "مكعب \u202eأحمر", "a | b", "\\n"]
)
def test_what_a_prompt_says_stays(tmp_path, prompt):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": prompt}))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"jobs": [{"prompt": prompt}]}, allow_unicode=True))
    for name in ("a.jsonl", "a.yaml"):
        assert read_manifest(tmp_path / name)[0].recipe["prompt"] == prompt

"""Defaults, presets, counts, the matrix and chains: who says what of a task."""

import json

import pytest

from lab.batch.manifest import read_manifest
from shared.recipe import load_preset
from video.recipe import ClipRecipe


@pytest.fixture
def read(tmp_path):
    """From what a manifest says to its tasks."""

    def read(said):
        manifest = tmp_path / "batch.json"
        manifest.write_text(json.dumps(said))
        return read_manifest(manifest)

    return read


def column(tasks, *keys):
    return [tuple(task.recipe.get(key) for key in keys) for task in tasks]


def test_the_nearest_counts(read):
    draft, long = load_preset("clip", "draft"), load_preset("clip", "long")
    assert draft["steps"] != ClipRecipe(prompt="a").steps
    assert "frames" in long
    jobs = [{}, {"steps": 3}, {"preset": "draft"}, {"preset": "draft", "steps": 4}, {"preset": None}]
    tasks = read({"defaults": {"prompt": "a", "steps": 5, "preset": "long"}, "jobs": jobs})
    assert column(tasks, "steps", "frames") == [
        (5, long["frames"]), (3, long["frames"]), (draft["steps"], None), (4, None), (5, None),
    ]  # fmt: skip


def test_defaults_of_one_kind_are_none_of_the_others(read):
    said = {"frames": 8, "scale": 3, "field": "grid", "preset": "draft", "size": "32x16", "prompt": "a"}
    tasks = read({"defaults": said, "jobs": [{}, {"kind": "image", "width": 64}, {"kind": "asset"}]})
    assert column(tasks, "frames", "width", "height", "field") == [
        (8, 32, 16, None), (None, 64, 16, None), (None, None, None, "grid"),
    ]  # fmt: skip


def test_a_job_that_says_none_has_the_recipe_s_own(read):
    job = {"prompt": "a", "width": None, "tags": []}
    tasks = read({"defaults": {"kind": "image", "width": 32, "tags": ["x"]}, "jobs": [job]})
    assert (tasks[0].recipe["width"], tasks[0].tags) == (None, ())


def test_seeds_are_counted_up_and_prompts_drawn_for_each(read):
    job = {"prompt": "{a|b} cube", "count": 12, "seed": "5"}
    tasks = read({"jobs": [{**job, "name": "x"}, {**job, "kind": "image"}]})
    assert [task.recipe["seed"] for task in tasks] == [*range(5, 17)] * 2
    assert [task.id for task in tasks[:12]] == [f"x-{number}" for number in range(1, 13)]
    prompts = [task.recipe["prompt"] for task in tasks]
    assert set(prompts) == {"a cube", "b cube"}
    assert prompts[:12] == prompts[12:]
    assert [task.id for task in tasks[12:]] == [
        f"{number:03}-{prompt[0]}-cube" for number, prompt in enumerate(prompts[12:], 13)
    ]
    assert {task.template for task in tasks} == {"{a|b} cube"}
    single = read({"jobs": [{**job, "seed": seed, "count": 1} for seed in range(5, 17)]})
    assert [task.recipe["prompt"] for task in single] == prompts[:12]


def test_a_matrix_is_its_product(read):
    every = {"steps": 2, "tags": ["m"], "then": [{"kind": "describe"}], "output": "{kind}/{index}-{seed}.webp"}
    axes = {"prompt": ["a", "b"], "kind": ["clip", "image"], "seed": [7, 8], "size": "8x16", "preset": ["draft"]}
    tasks = read({"defaults": every, "matrix": axes})
    assert [task.place for task in tasks] == ["matrix", "defaults.then.0"] * 8
    made = tasks[::2]
    assert [(task.recipe["prompt"], task.step, task.recipe["seed"]) for task in made] == [
        (prompt, kind, seed) for prompt in "ab" for kind in ("clip", "image") for seed in (7, 8)
    ]
    assert {task.tags for task in tasks} == {("m",)}
    assert set(column(made, "width", "height")) == {(8, 16)}
    assert {task.recipe["steps"] for task in made} == {load_preset(kind, "draft")["steps"] for kind in axes["kind"]}
    assert [task.output for task in made[:3]] == ["clip/001-7.webp", "clip/002-8.webp", "image/003-7.webp"]
    assert tasks[1].output == "001-a-describe.json"


def test_jobs_come_before_the_matrix_and_numbers_go_on(read):
    tasks = read({"matrix": {"prompt": "b", "seed": [0, 1]}, "jobs": [{"prompt": "a", "count": 2}]})
    assert [task.id for task in tasks] == ["001-a", "002-a", "003-b", "004-b"]


def test_a_chain_inherits_prompt_seed_tags_and_priority(read):
    then = [
        {"kind": "clip", "steps": 3, "then": [{"kind": "describe", "tags": ["d"], "priority": 0}]},
        {"kind": "clip", "prompt": "{b|c} moves", "seed": 9, "negative": "n"},
        {"kind": "upscale", "name": "big",
         "then": [{"kind": "clip", "preset": "draft"}, {"kind": "describe", "name": "d"}]},
    ]  # fmt: skip
    job = {"prompt": "{a|a}", "kind": "image", "name": "x", "seed": 4, "tags": ["t"], "priority": 2, "then": then}
    tasks = read({"defaults": {"steps": 5, "negative": "ugly", "model": "own/model"}, "jobs": [job]})
    drawn = tasks[3].recipe["prompt"]
    assert drawn in ("b moves", "c moves")
    keys = ("prompt", "seed", "steps", "negative", "model")
    assert [(task.id, *values) for task, values in zip(tasks, column(tasks, *keys), strict=True)] == [
        ("x", "a", 4, 5, "ugly", "own/model"),
        ("x/clip", "a", 4, 3, "", "own/model"),
        ("x/clip/describe", None, None, None, None, None),
        ("x/clip-2", drawn, 9, ClipRecipe(prompt="a").steps, "n", "own/model"),
        ("x/big", None, None, None, None, None),
        ("x/big/clip", "a", 4, load_preset("clip", "draft")["steps"], "", "own/model"),
        ("x/d", None, None, None, None, None),
    ]
    assert [task.template for task in tasks] == ["{a|a}", None, None, "{b|c} moves", None, None, None]
    assert [task.tags for task in tasks] == [("t",), ("t",), ("d",), ("t",), ("t",), ("t",), ("t",)]
    assert [task.priority for task in tasks] == [2, 2, 0, 2, 2, 2, 2]
    assert [dict(task.inputs) for task in tasks] == [
        {}, {"image": "x"}, {"source": "x/clip"}, {"image": "x"}, {"source": "x"}, {"image": "x/big"},
        {"source": "x/big"},
    ]  # fmt: skip


def test_names_of_a_chain_begin_with_their_job_s(read):
    then = [{"kind": "clip", "then": [{"kind": "upscale", "name": "big"}]}]
    job = {"prompt": "a", "kind": "image", "name": "x", "count": 2, "then": then}
    assert [task.id for task in read({"jobs": [job]})] == ["x-1", "x-1/clip", "x-1/big", "x-2", "x-2/clip", "x-2/big"]


def test_outputs_by_their_templates(read):
    job = {"prompt": "A {red|red} Cube!", "name": "x.v1", "kind": "image", "seed": 3, "count": 2}
    describe = {"kind": "describe", "output": "told/{name}-{index}-{seed}-{prompt}-{kind}.json"}
    tasks = read({"jobs": [{**job, "output": "{index}/{{{name}}}-{seed}-{prompt}-{kind}.jpeg", "then": [describe]}]})
    assert [task.output for task in tasks] == [
        "001/{x.v1-1}-3-a-red-cube-image.jpeg",
        "told/x.v1-1-describe-001-3-a-red-cube-describe.json",
        "002/{x.v1-2}-4-a-red-cube-image.jpeg",
        "told/x.v1-2-describe-002-4-a-red-cube-describe.json",
    ]


@pytest.mark.parametrize(
    ("prompt", "id"),
    [
        ("!!!", "001-untitled"),
        ("ein Würfel, grün", "001-ein-würfel-grün"),
        ("红" * 60, "001-" + "红" * 32),
        ("𠀋" * 60, "001-" + "𠀋" * 24),
        ("con", "001-con"),
        ("../../etc/passwd", "001-etc-passwd"),
    ],
)
def test_names_are_made_of_any_prompt(read, prompt, id):
    assert read({"jobs": [{"prompt": prompt}]})[0].id == id

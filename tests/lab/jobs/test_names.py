"""Names of many results."""

from pathlib import Path

import pytest

from lab.jobs.names import folder_of, many, names, slug
from lab.kinds import CLIP, IMAGE
from shared.errors import InputError
from shared.images.recipe import ImageRecipe

RECIPES = [ImageRecipe(prompt=prompt, seed=seed) for prompt in ("A red cube!", "日本 / ../x") for seed in (3, 4)]


def test_a_folder_names_them_by_number_prompt_and_seed():
    assert names("out", IMAGE, RECIPES) == [
        "out/001-a-red-cube-3.png", "out/002-a-red-cube-4.png", "out/003-日本-x-3.png", "out/004-日本-x-4.png",
    ]  # fmt: skip


def test_a_template_has_its_fields():
    assert names("o/{kind}/{seed}_{prompt}.jpg", IMAGE, RECIPES[:2]) == [
        "o/image/3_a-red-cube.jpg",
        "o/image/4_a-red-cube.jpg",
    ]
    assert names("{index}.mp4", CLIP, RECIPES[:1]) == ["001.mp4"]
    assert names("{index}.png", IMAGE, RECIPES * 300)[-1] == "1200.png"


@pytest.mark.parametrize(
    ("template", "part"),
    [
        ("{sed}.png", "Did you mean seed?"), ("{}.png", "fields"), ("{seed", "a template"), ("{seed:x}.png", "fields"),
        ("{prompt.__class__}.png", "fields"), ("{prompt}.png", "number 1 and number 2"), ("}.png{seed}", "a template"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_work_is_one_line(template, part):
    with pytest.raises(InputError, match=part.replace("?", r"\?")):
        names(template, IMAGE, RECIPES)


def test_slugs_are_file_names():
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("!!!") == "untitled"
    assert len(slug("word " * 400)) <= 60


def test_which_outputs_are_for_many(tmp_path):
    assert many("out/")
    assert many(str(tmp_path))
    assert many("{index}.png")
    assert not many("out.png")
    assert folder_of("a/b/{index}.png") == Path("a/b")
    assert folder_of("a/b-{index}.png") == Path("a")
    assert folder_of("a/b/") == Path("a/b")

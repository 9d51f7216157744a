"""The page of many results: rows, labels, and what is read from files that were there."""

import numpy as np
import pytest
import trimesh

from dreamfusion.mesh.report import mesh_report
from dreamfusion.recipe import AssetRecipe
from lab.jobs.run import Job
from lab.kinds import Output
from lab.results import Asset, Clip, Picture
from lab.show import sheet as module
from lab.show.sheet import Sheet
from shared.artifacts.contact_sheet import contact_sheet
from shared.artifacts.media import read_image
from shared.artifacts.run_record import RunRecord
from shared.images.recipe import ImageRecipe
from video.recipe import ClipRecipe


def made(recipe, path):
    """A job and its result, written."""
    name = {ImageRecipe: "image", ClipRecipe: "clip", AssetRecipe: "asset"}[type(recipe)]
    record = RunRecord.of_run(name, recipe.resolved(), recipe.seed, "world", {})
    pixels = np.random.default_rng(recipe.seed).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    if name == "asset":
        box = trimesh.creation.box((1, 0.5, 0.25))
        box.visual.vertex_colors = np.tile([200, 30, 40, 255], (8, 1)).astype(np.uint8)
        result = Asset(box, mesh_report(box), record)
    else:
        result = Picture(pixels[0], record) if name == "image" else Clip(pixels, 8.0, record)
    result.save(path)
    return Job(recipe, Output(str(path))), result


def page(jobs, tmp_path, pictures=(), tried=()):
    place = tmp_path / "sheet.png"
    count = Sheet(place, jobs).write(dict(pictures), tried=tried)
    return count, read_image(place)


def test_pictures_of_one_prompt_stand_side_by_side_at_most_eight(tmp_path):
    prompts = ["a cube"] * 10 + ["a duck", "a cube"]
    results = [
        made(ImageRecipe(prompt=prompt, seed=seed), tmp_path / f"{seed}.png") for seed, prompt in enumerate(prompts)
    ]
    count, shown = page([job for job, _ in results], tmp_path)
    pixels = [result.pixels for _, result in results]
    rows = [pixels[:8], pixels[8:10], pixels[10:11], pixels[11:]]
    assert count == 12
    np.testing.assert_array_equal(shown, contact_sheet(rows, ["a cube", "a cube", "a duck", "a cube"], scale=4))


@pytest.mark.parametrize(
    ("kind", "name"), [(ImageRecipe, "a.png"), (ClipRecipe, "a.apng"), (AssetRecipe, "a.glb"), (AssetRecipe, "a.ply")]
)
def test_a_file_from_before_is_shown_as_its_result_was(tmp_path, kind, name):
    job, result = made(kind(prompt="a red cube", seed=3), tmp_path / name)
    label = "a red cube" if kind is ImageRecipe else "a red cube (seed 3)"
    pictures = result.thumbnails()
    count, shown = page([job], tmp_path)
    assert count == 1
    np.testing.assert_array_equal(shown, contact_sheet([pictures], [label], scale=128 // pictures[0].shape[1]))


def test_what_cannot_be_read_or_has_failed_is_left_out(tmp_path):
    (job, result), (failed, _) = (
        made(ImageRecipe(prompt="a cube", seed=seed), tmp_path / f"{seed}.png") for seed in (0, 1)
    )
    printed, _ = made(AssetRecipe(prompt="a cube"), tmp_path / "a.stl")
    pictures = {job.output.path: [255 - result.pixels]}  # what was just made, and not what the file held
    count, shown = page([printed, failed, job], tmp_path, pictures, tried={failed.output.path, job.output.path})
    assert count == 1
    np.testing.assert_array_equal(shown, contact_sheet([[255 - result.pixels]], ["a cube"], scale=4))


def test_a_page_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHEET_ROWS", 3)
    results = [made(ImageRecipe(prompt="a cube", seed=seed), tmp_path / f"{seed}.png") for seed in range(5)]
    count, shown = page([job for job, _ in results], tmp_path)
    assert count == 3
    np.testing.assert_array_equal(shown, contact_sheet([[result.pixels for _, result in results[:3]]], ["a cube"],
                                                       scale=4))  # fmt: skip

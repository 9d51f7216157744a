"""The fixed lists of prompts, and asset measures on a mesh that is exactly right."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.asset_truth import FAILED, asset_rows, judged_views, measure_mesh
from benchmarks.judge import Judge
from benchmarks.truth.geometry import Similarity
from benchmarks.truth.judge_networks import MotionNetwork, PictureNetwork
from benchmarks.world_truth import drawn_compositions, flicker, make_pictures, single_compositions
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from tests.tiny import build_image_folder
from world.dataset import draw_samples
from world.mesh import scene_mesh
from world.prompt import OBJECT_NAMES, Composition, is_held_out
from world.scene import Instance, arrange


def test_prompts_are_held_out_and_always_the_same():
    singles = single_compositions(96)
    assert singles == single_compositions(96)
    assert len(singles) == 96
    assert {c.obj for c in singles[:24]} == set(OBJECT_NAMES)
    assert single_compositions(12) == singles[:12]
    for drawn in (singles, drawn_compositions(40, "clips"), drawn_compositions(40, "images")):
        assert all(map(is_held_out, drawn))
    assert all(c.motion for c in drawn_compositions(20, "clips"))
    assert all(c.relation for c in drawn_compositions(20, "images"))
    assert {c.view for c in singles} == {None, "front view", "side view"}


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return Judge(PictureNetwork(), MotionNetwork())


def test_the_exact_mesh_moved_and_resized_has_full_marks(judge):
    wanted = Composition("car", "green")
    mesh = Similarity(0.8, 20.0, (0.1, 0.0, -0.1)).moved(scene_mesh((Instance("car", "green"),), 64))
    measure = measure_mesh(judge, mesh, wanted)
    assert measure.silhouette_iou > 0.95
    assert measure.volumetric_iou > 0.9
    assert measure.chamfer < 0.05
    assert measure.colour_error < 0.05
    assert measure.watertight
    assert measure.pose.yaw == pytest.approx(-20, abs=4)
    rows = by_metric([(wanted, measure)])
    assert rows["assets, size error (factor)"].value == pytest.approx(1.25, rel=0.04)
    for recognised in (True, False):  # where the front of an unrecognised thing is means nothing
        rows = by_metric([(wanted, replace(measure, recognised=recognised))])
        assert rows["assets, recognised, with the front where it should be"].value == recognised


def test_pairs_are_measured_against_both_objects_and_seen_from_the_front(judge, monkeypatch):
    pair = Composition("cube", "red", None, None, "next to", "sphere", "blue")
    mesh = scene_mesh(arrange(pair), 64)
    measure = measure_mesh(judge, mesh, pair)
    assert measure.silhouette_iou > 0.95
    assert measure.colour_error < 0.05
    for view in judged_views(mesh, 48, pair=True).astype(int):
        red, blue = view[..., 0] - view[..., 2] > 60, view[..., 2] - view[..., 0] > 60
        assert np.argwhere(red)[:, 1].mean() < np.argwhere(blue)[:, 1].mean() - 10  # the first is on the left


def by_metric(measures):
    return {row.metric: row for row in asset_rows(measures)}


def test_an_asset_that_did_not_come_out_counts_as_wrong():
    fine = replace(FAILED, silhouette_iou=0.8, chamfer=0.1, colour_error=0.2, watertight=True, recognised=True)
    rows = by_metric([(Composition("cube", "red"), fine), (Composition("cone", "blue"), FAILED)])
    assert rows["assets, silhouette IoU"].value == pytest.approx(0.4)
    assert rows["assets, watertight"].value == rows["assets, object and colour, 4 sides together"].value == 0.5
    assert rows["assets, Chamfer distance"].value == pytest.approx(0.1)  # of those that there are


def test_the_wrong_colour_is_a_colour_error(judge):
    wrong = scene_mesh((Instance("sphere", "cyan"),), 32)
    measure = measure_mesh(judge, wrong, Composition("sphere", "red"))
    expected = np.linalg.norm(np.subtract((0.1, 0.85, 0.88), (0.88, 0.08, 0.08)))
    assert measure.colour_error == pytest.approx(expected, abs=0.02)


def test_judged_views_are_four_sides_in_the_objects_colour():
    views = judged_views(scene_mesh((Instance("cube", "blue"),), 32), 32)
    assert views.shape == (4, 32, 32, 3)
    assert all(v[16, 16, 2] > 2 * v[16, 16, 0] for v in views)


def test_pictures_are_made_in_batches_by_seed(tmp_path, monkeypatch):
    model = load_image_model(build_image_folder(tmp_path / "model"))
    wanted = single_compositions(3)
    recipe = ImageRecipe(prompt="any", steps=3)
    together = make_pictures(model, wanted, recipe)
    monkeypatch.setattr("benchmarks.world_truth.IMAGES_A_BATCH", 2)
    apart = make_pictures(model, wanted, recipe)
    assert together.shape == (3, 64, 64, 3)
    assert np.abs(together.astype(int) - apart).max() <= 1


def test_flicker_is_none_in_the_world_and_as_much_as_is_added():
    clips = np.stack([sample.pixels for sample in draw_samples(10, kind="clips", seed=8)])
    assert (flicker(clips) == 0).all()
    clips[:, ::2] += 3
    assert (flicker(clips) == 3).all()

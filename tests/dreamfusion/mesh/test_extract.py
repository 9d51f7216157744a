import math

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.testing import assert_close

from dreamfusion.mesh.colour import mesh_colours
from dreamfusion.mesh.extract import (
    choose_threshold,
    extract_mesh,
    log_levels,
    silhouette_views,
    simplified,
    surface,
    vertex_colours,
    without_crumbs,
)  # fmt: skip
from dreamfusion.render.volume import render_rays
from shared.errors import KinoformError
from tests.dreamfusion.shapes import VOLUMES, SolidField, box, colour_at, sphere


@pytest.mark.parametrize("shape", VOLUMES)
def test_exact_solids_come_out_right(shape):
    """The chosen threshold gives the exact volume within 1%, closed, in one piece, facing outwards.

    The solid's skin is thin: a thick one is seen well outside of half its density, and so is its mesh, rightly.
    """
    distance, volume = VOLUMES[shape]
    field = SolidField(distance, radius=1.1, width=2e-4)
    threshold = choose_threshold(field, silhouette_views())
    assert threshold.silhouette_iou > 0.99
    mesh = extract_mesh(field, threshold.density, resolution=96)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.body_count == 1
    assert mesh.euler_number == (0 if shape == "torus" else 2)
    assert mesh.volume == pytest.approx(volume, rel=0.01)
    points = torch.tensor(np.array(mesh.triangles_center), dtype=torch.float32)
    outside = points + 0.02 * torch.tensor(np.array(mesh.face_normals), dtype=torch.float32)
    assert (distance(outside) > distance(points)).float().mean() > 0.999
    assert distance(points).abs().max() < 0.03


def test_smoothing_and_simplification_keep_the_volume():
    distance, volume = VOLUMES["torus"]
    field = SolidField(distance, radius=1.1)
    mesh = extract_mesh(field, 100.0, resolution=64, faces=6000, smoothing=3)
    assert mesh.is_watertight
    assert len(mesh.faces) <= 6000
    assert mesh.volume == pytest.approx(volume, rel=0.01)


def test_threshold_is_the_best_of_all_by_trying():
    """No other threshold has a better silhouette, for a soft field; tried one by one."""
    field = SolidField(sphere(0.6), radius=1.1, peak=20.0, width=0.08)
    views = silhouette_views(24)
    chosen = choose_threshold(field, views)
    o, d = (r.reshape(-1, 3) for r in views.cameras.rays())
    with torch.no_grad():
        seen = render_rays(field, o, d, samples=96).opacity > 0.5
        along = (o[:, None] + torch.linspace(2.8, 5.2, 200)[:, None] * d[:, None]).reshape(-1, 3)
        peak = field.density(along).view(len(o), -1).amax(dim=1)

    def iou(threshold: float) -> float:
        surface = peak > threshold
        return int((seen & surface).sum()) / int((seen | surface).sum())

    assert iou(chosen.density) == pytest.approx(chosen.silhouette_iou, abs=0.01)
    assert iou(chosen.density) >= max(iou(t) for t in np.geomspace(0.05, 19, 12)) - 0.005


def test_nothing_visible_is_said():
    with pytest.raises(KinoformError, match="the scene is empty"):
        choose_threshold(SolidField(sphere(), peak=0.01), silhouette_views(16))
    with pytest.raises(KinoformError, match="the mesh is empty"):
        extract_mesh(SolidField(sphere(), peak=1.0), 5.0, resolution=16)


def test_floaters_go_and_cavities_are_filled():
    body, crumb = sphere(0.6), sphere(0.1, (0.0, 0.85, 0.0))

    def distance(p):
        hollow = torch.maximum(body(p), -sphere(0.3)(p))
        return torch.minimum(hollow, crumb(p))

    mesh = extract_mesh(SolidField(distance, radius=1.1), 100.0, resolution=64)
    assert mesh.body_count == 1
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=0.01)


def test_a_second_object_is_no_floater():
    def distance(p):
        return torch.minimum(sphere(0.45, (0.5, 0, 0))(p), sphere(0.3, (-0.6, 0, 0))(p))

    mesh = extract_mesh(SolidField(distance, radius=1.1), 100.0, resolution=64)
    assert mesh.body_count == 2
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * (0.45**3 + 0.3**3), rel=0.01)


def test_solid_up_to_the_border_is_closed():
    mesh = extract_mesh(SolidField(box((3.0, 3.0, 3.0)), radius=1.0), 100.0, resolution=48)
    assert mesh.is_watertight
    # What is meshed is what was rendered: the ball of the field's radius.
    assert mesh.volume == pytest.approx(4 / 3 * math.pi, rel=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.3, 3.0))
def test_any_density_gives_a_closed_surface(seed, blur, threshold):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(16, 16, 16)), blur)
    density = np.exp(2 * noise / noise.std())
    density[:4, :4, :4] = threshold  # ties
    mesh = surface(log_levels(density, threshold), 0.1, 0.8)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0


def test_crumbs_go_whichever_way_they_face():
    body, crumb, void = (trimesh.creation.box((size, size, size)) for size in (1, 0.1, 0.3))
    crumb.apply_translation((2, 0, 0))
    void.invert()
    kept = without_crumbs(trimesh.util.concatenate([crumb, body, void]))
    assert kept.body_count == 1
    assert kept.volume == pytest.approx(1.0)


def test_simplified_never_opens():
    mesh = extract_mesh(SolidField(VOLUMES["torus"][0], radius=1.1), 100.0, resolution=48)
    for faces in (2000, 200, 20, 4):
        assert simplified(mesh, faces).is_watertight


def test_colours_are_those_at_the_surface():
    field = SolidField(sphere(0.7), radius=1.1)
    mesh = extract_mesh(field, 100.0, resolution=48)
    wanted = colour_at(torch.tensor(np.asarray(mesh.vertices), dtype=torch.float32))
    got = torch.tensor(mesh_colours(mesh)[:, :3]) / 255
    assert_close(got, wanted, rtol=0, atol=0.02)
    assert (mesh_colours(mesh)[:, 3] == 255).all()
    assert np.array_equal(vertex_colours(field, mesh), mesh_colours(mesh))

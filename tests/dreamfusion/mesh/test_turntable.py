import numpy as np
import torch

from dreamfusion.mesh.extract import extract_mesh
from dreamfusion.mesh.turntable import render_mesh, turntable
from dreamfusion.views import around, make_views
from shared.cameras import direction
from tests.dreamfusion.shapes import SolidField, box, sphere


def test_a_lit_sphere_is_lambert():
    """Against the closed form: for a sphere seen from afar, shade = albedo (0.4 + 0.6 n.l)."""
    mesh = extract_mesh(SolidField(sphere(0.8), radius=1.1), 100.0, resolution=96)
    azimuth, elevation = torch.tensor([25.0]), torch.tensor([15.0])
    light = direction(torch.tensor([60.0]), torch.tensor([45.0]))
    views = make_views(azimuth, elevation, light, 48)
    got = render_mesh(mesh, views, shading="textureless", background=0.0)[0, ..., 0] / 255
    origins, rays = (r[0] for r in views.cameras.rays())
    towards = -(origins * rays).sum(dim=-1)
    miss = (origins + towards[..., None] * rays).square().sum(dim=-1)
    depth = towards - (0.64 - miss).clamp(min=0).sqrt()
    normal = (origins + depth[..., None] * rays) / 0.8
    wanted = torch.where(miss < 0.64, 0.4 + 0.6 * (normal @ light[0]).clamp(min=0), torch.zeros(())).numpy()
    inner = (miss < 0.5).numpy()
    assert np.abs(got - wanted)[inner].max() < 0.04
    assert np.abs(got - wanted)[inner].mean() < 0.005
    assert ((got > 0.2) == (miss < 0.64).numpy()).mean() > 0.98


def test_a_turn_shows_front_and_back_alternating():
    mesh = extract_mesh(SolidField(box((0.7, 0.3, 0.15)), radius=1.1), 100.0, resolution=48)
    frames = turntable(mesh, frames=8, size=48, background=0.5)
    assert frames.shape == (8, 48, 48, 3)
    assert frames.dtype == np.uint8
    covered = (frames != 128).any(axis=-1).reshape(8, -1).sum(axis=1)
    assert covered[0] > 2 * covered[2]  # broadside, then end on
    assert abs(int(covered[0]) - int(covered[4])) <= 0.02 * covered[0]
    # Colours follow x and z: red is to the right in front, to the left from behind.
    red = frames[..., 0].astype(float) - frames[..., 1]
    assert red[0][:, 24:].mean() > 2 > -2 > red[0][:, :24].mean()
    assert red[4][:, 24:].mean() < -2 < 2 < red[4][:, :24].mean()


def test_same_mesh_same_frames():
    mesh = extract_mesh(SolidField(sphere(0.6), radius=1.1), 100.0, resolution=32)
    views = around(3, 32)
    assert np.array_equal(render_mesh(mesh, views), render_mesh(mesh, views))

import math

import pytest
import torch
from torch.testing import assert_close

from dreamfusion.views import around, sample_views
from shared.cameras import ELEVATION, LIGHT_ELEVATION, LIGHT_SPREAD, OVERHEAD_ELEVATION
from shared.view_words import view_word


def direction_angles(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(azimuth, elevation) in degrees of vectors from the origin, by the definition in shared.cameras."""
    x, y, z = torch.nn.functional.normalize(vectors, dim=-1).T
    return torch.rad2deg(torch.atan2(x, z)), torch.rad2deg(torch.asin(y))


def many(count: int = 4, draws: int = 300, **options):
    generator = torch.Generator().manual_seed(0)
    return [sample_views(count, 8, generator, **options) for _ in range(draws)]


def test_cameras_stand_where_the_angles_say():
    for views in many(draws=20):
        azimuth, elevation = direction_angles(views.cameras.origins)
        assert_close(azimuth, torch.tensor(views.azimuth), rtol=0, atol=1e-2)
        assert_close(elevation, torch.tensor(views.elevation), rtol=0, atol=1e-2)
        assert views.words == [view_word(a, e) for a, e in zip(views.azimuth, views.elevation, strict=True)]


def test_views_of_a_step_surround_the_object():
    for views in many(count=3):
        sorted_azimuths = sorted(views.azimuth)
        gaps = [(b - a) % 360 for a, b in zip(sorted_azimuths, sorted_azimuths[1:] + sorted_azimuths[:1], strict=True)]
        assert max(gaps) <= 120 * 1.5 + 1e-3


def test_azimuths_and_elevations_cover_their_ranges():
    views = many(overhead_probability=0.25)
    azimuth = torch.tensor([a for v in views for a in v.azimuth])
    elevation = torch.tensor([e for v in views for e in v.elevation])
    counts = torch.histc(azimuth, bins=8, min=-180, max=180) / len(azimuth)
    assert_close(counts, torch.full((8,), 1 / 8), rtol=0, atol=0.04)
    overhead = elevation > 60
    assert overhead.float().mean() == pytest.approx(0.25, abs=0.04)
    for chosen, (low, high) in ((elevation[overhead], OVERHEAD_ELEVATION), (elevation[~overhead], ELEVATION)):
        assert low <= chosen.min() < low + 1
        assert high - 1 < chosen.max() <= high


def test_light_is_above_and_on_the_camera_side():
    for views in many(draws=50):
        assert_close(views.light.norm(dim=-1), torch.ones(4))
        azimuth, elevation = direction_angles(views.light)
        assert (elevation >= LIGHT_ELEVATION[0] - 1e-2).all()
        assert (elevation <= LIGHT_ELEVATION[1] + 1e-2).all()
        turned = (azimuth - torch.tensor(views.azimuth) + 180) % 360 - 180
        assert (turned.abs() <= LIGHT_SPREAD + 1e-2).all()


def test_around_is_one_even_turn_from_the_front():
    views = around(8, 16, elevation=20.0)
    assert_close(torch.tensor(views.azimuth), torch.arange(8) * 45.0)
    assert views.words[0] == "front view"
    assert views.words[4] == "back view"
    up, forward = 4 * math.sin(math.radians(20)), 4 * math.cos(math.radians(20))
    assert_close(views.cameras.origins[0], torch.tensor([0.0, up, forward]))

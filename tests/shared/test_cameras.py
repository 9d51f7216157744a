"""Pinhole cameras against geometry: square pixels whatever the picture's shape, the field of view, the way back."""

import math

import pytest
import torch
from torch.testing import assert_close

from shared.cameras import Cameras, direction, look_at, orbit
from tests.tolerances import close

SHAPES = [(48, 48), (32, 80), (90, 20)]  # height, width


def one_camera(height, width, fov=0.8):
    return Cameras(torch.eye(4)[None], torch.tensor([fov]), height, width)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_pixels_are_square_and_the_field_of_view_is_the_vertical_one(height, width):
    _, directions = one_camera(height, width).rays()
    slopes = directions[0, ..., :2] / -directions[0, ..., 2:]
    step = 2 * math.tan(0.4) / height
    assert_close(slopes[:, 1:, 0] - slopes[:, :-1, 0], torch.full((height, width - 1), step), **close(torch.float32))
    assert_close(slopes[:-1, :, 1] - slopes[1:, :, 1], torch.full((height - 1, width), step), **close(torch.float32))
    assert_close(slopes[0, 0, 1], torch.tensor(math.tan(0.4) - step / 2), **close(torch.float32))
    assert_close(slopes[0, 0, 0], -slopes[0, -1, 0], **close(torch.float32))


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_a_point_on_a_pixel_s_ray_is_seen_at_that_pixel(height, width):
    cameras = Cameras(look_at(torch.tensor([[1.0, 2.0, 3.0]]), torch.zeros(1, 3)), torch.tensor([0.7]), height, width)
    origins, directions = cameras.rays()
    row, column = height // 3, width // 4
    point = origins[0, row, column] + 2.5 * directions[0, row, column]
    pixels, depth = cameras.project(point[None])
    assert_close(pixels[0, 0], torch.tensor([float(column), float(row)]), rtol=0, atol=1e-3)  # of a pixel
    assert 0 < float(depth) < 2.5


def test_azimuth_turns_from_z_to_x_and_elevation_rises_to_y():
    angles = torch.tensor([[0, 0], [90, 0], [-90, 0], [180, 0], [30, 90]], dtype=torch.float32)
    axes = torch.tensor([[0, 0, 1], [1, 0, 0], [-1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float32)
    assert_close(direction(*angles.T), axes, **close(torch.float32))
    assert_close(orbit(*angles.T, radius=2.5).origins, 2.5 * axes, **close(torch.float32))

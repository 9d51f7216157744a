"""The renderer against a slow loop in float64 and against what geometry says of spheres."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from shared.cameras import CAMERA_RADIUS, FOV_Y
from world.objects import COLOURS
from world.render import AMBIENT, render
from world.scene import Frame, Instance, objects_by_name

UP_LEFT = (-0.5, 0.7, math.sqrt(1 - 0.5**2 - 0.7**2))


def slow_picture(frame, size):
    """One ray after the other, in float64: colour "h w 3" and where an object was met "h w"."""
    a, e = math.radians(frame.azimuth), math.radians(frame.elevation)
    back = np.array([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
    right = np.cross([0, 1, 0], back)
    right /= np.linalg.norm(right)
    up, eye = np.cross(back, right), back * CAMERA_RADIUS
    places = []
    for i in frame.instances:
        yaw = math.radians(i.yaw)
        turn = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
        places.append((objects_by_name()[i.obj], i, turn))

    def distance(p):
        local = [(o, torch.tensor((p - np.array(i.position)) @ turn / i.scale), i) for o, i, turn in places]
        values = [float(o.distance(q)) * i.scale for o, q, i in local]
        return min(values), int(np.argmin(values)), local

    def look(x, y):
        direction = x * math.tan(FOV_Y / 2) * right + y * math.tan(FOV_Y / 2) * up - back
        direction /= np.linalg.norm(direction)
        t = 2.0
        while t < 6.0:
            p = eye + t * direction
            d, which, local = distance(p)
            if d < 2e-3:
                o, q, i = local[which]
                steps = 1e-4 * np.eye(3)
                normal = np.array([distance(p + s)[0] - distance(p - s)[0] for s in steps])
                normal /= np.linalg.norm(normal)
                albedo = o.palette(COLOURS[i.colour])[o.nearest_part(q)].double().numpy()
                shade = AMBIENT + (1 - AMBIENT) * max(0.0, float(normal @ np.array(frame.light)))
                return albedo * shade, True
            t += max(d, 1e-3)
        return np.full(3, frame.background), False

    colour, coverage = np.zeros((size, size, 3)), np.zeros((size, size), dtype=bool)
    for row in range(size):
        for column in range(size):
            colour[row, column], coverage[row, column] = look(2 * (column + 0.5) / size - 1, 1 - 2 * (row + 0.5) / size)
    return colour, coverage


@pytest.mark.parametrize(
    "instances",
    [
        (Instance("snowman", "cyan"),),
        (Instance("cube", "red", (-0.3, 0.1, 0.0), 0.6, 35.0), Instance("sphere", "yellow", (0.4, -0.2, 0.5), 0.5)),
    ],
)
def test_pixels_equal_a_slow_loop(instances):
    frame = Frame(instances, -15.0, 25.0, UP_LEFT, 0.3)
    size = 14
    picture = render([frame], size)
    pixels = picture.pixels[0].numpy() / 255
    colour, coverage = slow_picture(frame, size)
    # Away from edges of any kind, where one ray says little.
    spread = ndimage.maximum_filter(colour, (3, 3, 1)) - ndimage.minimum_filter(colour, (3, 3, 1))
    flat = spread.max(-1) < 0.15
    assert flat.mean() > 0.5
    assert np.abs(pixels - colour)[flat].max() < 0.02
    assert (picture.mask[0].numpy() == coverage).mean() > 0.99
    assert np.abs(pixels - colour).mean() < 0.03


@pytest.mark.parametrize(("position", "scale"), [((0.0, 0.0, 0.0), 1.0), ((0.4, -0.3, 0.5), 0.6)])
def test_a_spheres_silhouette_is_a_cone_of_rays(position, scale):
    size = 48
    frame = Frame((Instance("sphere", "red", position, scale),), 20.0, 30.0, UP_LEFT, 0.5)
    origins, directions = frame.cameras(size).rays()
    to_centre = torch.tensor(position) - origins[0, 0, 0]
    distance = float(to_centre.norm())
    angle = torch.acos(((directions[0] @ to_centre) / distance).clamp(-1, 1))
    limit = math.asin(0.8 * scale / distance)
    picture = render([frame], size)
    pixel = FOV_Y / size
    assert (picture.mask[0] == (angle < limit))[(angle - limit).abs() > 0.1 * pixel].all()
    background = (picture.pixels[0].float() == round(0.5 * 255)).all(-1)
    assert (background == (angle >= limit))[(angle - limit).abs() > 1.5 * pixel].all()


@pytest.mark.parametrize(("turn", "cosine"), [(0, 1.0), (60, 0.5), (120, 0.0)])
def test_lambert_at_the_middle_of_a_sphere(turn, cosine):
    light = (math.sin(math.radians(turn)), 0.0, math.cos(math.radians(turn)))
    frame = Frame((Instance("sphere", "orange"),), 0.0, 0.0, light, 0.5)
    middle = render([frame], 33).pixels[0, 16, 16].numpy() / 255
    expected = np.array(COLOURS["orange"]) * (0.4 + 0.6 * cosine)
    np.testing.assert_allclose(middle, expected, atol=1.5 / 255)


def test_light_turns_with_the_world_not_with_the_object():
    """A turned sphere looks the same; a camera that goes round sees the dark side."""
    plain = Frame((Instance("sphere", "red"),), 0.0, 0.0, (0.0, 0.0, 1.0), 0.5)
    turned = Frame((Instance("sphere", "red", yaw=140),), 0.0, 0.0, (0.0, 0.0, 1.0), 0.5)
    behind = Frame((Instance("sphere", "red"),), 180.0, 0.0, (0.0, 0.0, 1.0), 0.5)
    pixels = render([plain, turned, behind], 33).pixels.int()
    assert (pixels[0] - pixels[1]).abs().max() <= 2
    assert pixels[2, 16, 16, 0] == round(0.88 * 0.4 * 255)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_object_is_seen(order):
    things = [Instance("cube", "red", (0, 0, -0.5), 0.9), Instance("sphere", "blue", (0, 0, 0.6), 0.4)]
    frame = Frame(tuple(things[i] for i in order), 0.0, 0.0, (0.0, 0.0, 1.0), 0.5)
    pixels = render([frame], 33).pixels[0].int()
    assert pixels[16, 16].argmax() == 2  # blue in front
    assert pixels[16, 6].argmax() == 0  # red beside it


def test_a_picture_does_not_depend_on_its_batch():
    frames = [
        Frame((Instance("car", "green"),), 40.0, 15.0, UP_LEFT, 0.4),
        Frame(
            (Instance("car", "pink", yaw=20), Instance("cone", "white", (0, 0.6, 0), 0.3)), -70.0, 30.0, UP_LEFT, 0.7
        ),
        Frame((Instance("boat", "red"),), 100.0, 5.0, UP_LEFT, 0.6),
    ]
    together = render(frames, 32)
    for index, frame in enumerate(frames):
        alone = render([frame], 32)
        assert (together.pixels[index].int() - alone.pixels[0].int()).abs().max() <= 1
        assert (together.mask[index] == alone.mask[0]).all()


def test_edges_are_between_object_and_background():
    frame = Frame((Instance("cylinder", "black"),), 0.0, 0.0, (0.0, 0.0, 1.0), 0.9)
    row = render([frame], 64).pixels[0, 32, :, 0].int()
    inside, outside = int(row[32]), round(0.9 * 255)
    edge = row[(row != outside) & ((row - inside).abs() > 40)]
    assert 1 <= len(edge) <= 6
    assert ((edge > 10) & (edge < outside)).all()

import math

import torch
from torch.testing import assert_close

from dreamfusion.render.shading import AMBIENT, DIFFUSE, shade

ALBEDO = torch.tensor([[0.2, 0.4, 0.8], [1.0, 0.5, 0.1], [0.3, 0.3, 0.3]])
NORMAL = torch.tensor([[0.0, 1.0, 0.0], [0.0, math.sin(0.7), math.cos(0.7)], [0.0, -1.0, 0.0]])
LIGHT = torch.tensor([[0.0, 1.0, 0.0]]).expand(3, 3)
COSINE = torch.tensor([1.0, math.sin(0.7), 0.0])


def test_lambert():
    received = AMBIENT + DIFFUSE * COSINE[:, None]
    assert_close(shade("albedo", ALBEDO), ALBEDO)
    assert_close(shade("lambertian", ALBEDO, NORMAL, LIGHT), ALBEDO * received)
    assert_close(shade("textureless", ALBEDO, NORMAL, LIGHT), received.expand(3, 3))


def test_a_face_towards_the_light_shows_its_albedo():
    assert math.isclose(AMBIENT + DIFFUSE, 1.0)


def test_lighting_is_that_of_the_world():
    from world.render import AMBIENT as WORLD_AMBIENT

    assert AMBIENT == WORLD_AMBIENT


def test_textureless_has_no_gradient_to_albedo_and_lambertian_has():
    albedo, normal = ALBEDO.clone().requires_grad_(), NORMAL.clone().requires_grad_()
    (to_normal,) = torch.autograd.grad(shade("textureless", albedo, normal, LIGHT).sum(), normal)
    assert_close(to_normal, 3 * DIFFUSE * LIGHT * torch.tensor([[1.0], [1.0], [0.0]]))
    (to_albedo,) = torch.autograd.grad(shade("lambertian", albedo, normal, LIGHT).sum(), albedo)
    assert_close(to_albedo, (AMBIENT + DIFFUSE * COSINE[:, None]).expand(3, 3))

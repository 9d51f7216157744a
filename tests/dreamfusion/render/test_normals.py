import pytest
import torch
from torch.testing import assert_close

from dreamfusion.fields.field import GridField
from dreamfusion.render.normals import autograd_normals, normals
from tests.dreamfusion.shapes import SolidField, box, sphere, torus


def near_surface(distance, count: int = 200) -> torch.Tensor:
    p = 2 * torch.rand(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    return p[distance(p).abs() < 0.03][:count]


def test_normals_of_a_sphere_point_outwards():
    centre = (0.1, -0.2, 0.05)
    where = near_surface(sphere(0.7, centre))
    field = SolidField(sphere(0.7, centre), width=0.05).double()
    outward = torch.nn.functional.normalize(where - where.new_tensor(centre), dim=-1)
    assert_close(normals(field, where, 1e-4), outward, rtol=0, atol=1e-6)
    assert_close(autograd_normals(field, where), outward, rtol=0, atol=1e-9)


@pytest.mark.parametrize("distance", [sphere(), torus()])
def test_finite_differences_agree_with_autograd_to_second_order(distance):
    where = near_surface(distance)
    field = SolidField(distance, width=0.05).double()
    exact = autograd_normals(field, where)
    errors = [float((normals(field, where, h) - exact).detach().norm(dim=-1).max()) for h in (4e-3, 2e-3)]
    assert errors[0] < 0.01
    # Second order in the step.
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_gradients_reach_the_density_and_agree_with_the_reference():
    class Lumps(torch.nn.Module):
        """A smooth density with parameters that turn its normals."""

        radius = 1.0

        def __init__(self):
            super().__init__()
            self.weights = torch.nn.Parameter(torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).double())

        def density(self, p):
            return torch.exp(torch.sin(p @ self.weights.T).sum(dim=-1))

        def forward(self, p):
            return self.density(p), p

    field = Lumps()
    where = torch.randn(40, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    light = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    by_difference, by_autograd = (
        torch.autograd.grad((n @ light).clamp(min=0).sum(), field.weights)[0]
        for n in (normals(field, where, 1e-4), autograd_normals(field, where))
    )
    assert by_autograd.abs().min() > 1e-3
    assert_close(by_difference, by_autograd, rtol=1e-5, atol=1e-6)


def test_normals_train_a_grid_field():
    field = GridField(1.0, resolution=8, levels=2, generator=torch.Generator().manual_seed(0))
    where = near_surface(sphere(0.5)).float()
    normals(field, where, 0.02)[:, 1].sum().backward()
    assert all(grid.grad[:, 0].abs().max() > 0 for grid in field.grids)


def test_constant_density_has_no_normal():
    field = SolidField(box(), peak=0.0)
    assert torch.equal(normals(field, torch.zeros(3, 3), 0.01), torch.zeros(3, 3))

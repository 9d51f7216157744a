import math

import pytest
import torch
from torch.testing import assert_close

from dreamfusion.fields.field import TriplaneField
from dreamfusion.fields.occupancy import OccupancyGrid, occupancy_of
from dreamfusion.render.volume import composite_weights, ray_ball, render_rays, render_rays_reference, sample_depths
from shared.cameras import orbit
from tests.dreamfusion.shapes import SolidField, sphere
from tests.tolerances import close


def rays(size: int = 7, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    o, d = orbit([20.0, 160.0], [30.0, 5.0], height=size, width=size).rays()
    return o.reshape(-1, 3).to(dtype), torch.nn.functional.normalize(d.reshape(-1, 3).to(dtype), dim=-1)


def random_field(dtype=torch.float32) -> TriplaneField:
    field = TriplaneField(1.1, resolution=10, channels=4, hidden=8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for plane in field.planes:
            plane.mul_(8)
    return field.to(dtype)


def test_ray_ball_meets_the_sphere():
    origins, directions = rays(15, torch.float64)
    near, far = ray_ball(origins, directions, 1.1)
    hits = far > near
    assert 0.2 < hits.double().mean() < 0.9
    for depth in (near, far):
        surface = origins + depth[:, None] * directions
        assert_close(surface[hits].norm(dim=-1), torch.full((int(hits.sum()),), 1.1, dtype=torch.float64))
    closest = torch.linalg.cross(origins, directions).norm(dim=-1)
    assert torch.equal(hits, closest < 1.1)
    near, far = ray_ball(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]]), 1.1)  # from inside
    assert_close(torch.cat([near, far]), torch.tensor([0.0, 1.1]))


def test_samples_stay_inside_and_cover_the_chord():
    origins, directions = rays()
    offset = torch.rand(len(origins), generator=torch.Generator().manual_seed(0))
    t, inside, delta = sample_depths(origins, directions, 1.1, 40, offset)
    near, far = ray_ball(origins, directions, 1.1)
    assert ((t >= near[:, None]) & (t < far[:, None]))[inside].all()
    assert ((inside.sum(dim=1) * delta - (far - near)).abs() <= delta).all()


def test_weights_are_products_of_what_is_left():
    optical = torch.rand(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    weights = composite_weights(optical)
    for ray in range(5):
        left = 1.0
        for i in range(9):
            absorbed = 1 - math.exp(-optical[ray, i])
            assert float(weights[ray, i]) == pytest.approx(left * absorbed, rel=1e-12)
            left *= 1 - absorbed


@pytest.mark.parametrize("wall", [1e3, 1e6, 3e9, 1e30, math.inf])
@pytest.mark.parametrize("haze", [0.0, 1e-3, 0.7])
def test_a_wall_of_any_density_takes_what_the_haze_before_it_leaves(wall, haze):
    """Of samples haze, haze, wall, haze the weights are a, a (1 - a), (1 - a)^2, 0, with a = 1 - exp(-haze)."""
    optical = torch.tensor([[haze, haze, wall, haze]], requires_grad=True)
    weights = composite_weights(optical)
    a = -math.expm1(-haze)
    assert_close(weights, torch.tensor([[a, a * (1 - a), (1 - a) ** 2, 0.0]]), **close(torch.float32))
    assert_close(weights.sum(), torch.tensor(1.0), **close(torch.float32))
    (gradient,) = torch.autograd.grad((weights * torch.tensor([[1.0, 2.0, 4.0, 8.0]])).sum(), optical)
    left = 1 - a  # d/d(first) = (1 - a) - 2 a (1 - a) - 4 (1 - a)^2, and so on
    wanted = [left - 2 * a * left - 4 * left**2, 2 * left**2 - 4 * left**2, 0.0, 0.0]
    assert_close(gradient, torch.tensor([wanted]), **close(torch.float32))


@pytest.mark.parametrize("tau", [1e8, math.inf])
def test_a_solid_of_any_density_is_rendered_as_opaque(tau):
    class Wall:
        radius = 1.0

        def density(self, points):
            return torch.where(points[:, 0] < 0, tau, 0.0)

        def __call__(self, points):
            return self.density(points), torch.full((len(points), 3), 0.25)

    origins, directions = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[-1.0, 0.0, 0.0]])
    for render in (render_rays, render_rays_reference):
        seen = render(Wall(), origins, directions, samples=64)
        assert_close(seen.opacity, torch.ones(1))
        assert_close(seen.colour, torch.full((1, 3), 0.25))
        assert 2 < float(seen.depth) < 2 + 2 / 64


def test_even_fog_absorbs_exponentially():
    class Fog:
        radius = 1.0

        def density(self, points):
            return torch.full_like(points[:, 0], 0.7)

        def __call__(self, points):
            return self.density(points), torch.full_like(points, 0.25)

    origins, directions = torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    rendered = render_rays(Fog(), origins, directions, samples=64)
    opacity = 1 - math.exp(-0.7 * 2)  # Beer-Lambert over the diameter
    assert_close(rendered.opacity, torch.tensor([opacity]), **close(torch.float32))
    assert_close(rendered.colour, torch.full((1, 3), 0.25 * opacity), **close(torch.float32))


def test_depth_of_a_solid_is_where_its_surface_is():
    origins, directions = torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    rendered = render_rays(SolidField(sphere(0.8), peak=2000.0, width=1e-3), origins, directions, samples=512)
    assert float(rendered.opacity) == pytest.approx(1, abs=1e-5)
    assert float(rendered.depth) == pytest.approx(2.2, abs=2 * 1.2 / 512 + 0.005)


def parameters_of_loss(render, field, shading: str, **options):
    """Every output, and the gradients of a scalar of all of them with respect to every parameter."""
    dtype = field.first.weight.dtype
    origins, directions = rays(dtype=dtype)
    draw = torch.Generator().manual_seed(5)
    light = torch.nn.functional.normalize(torch.randn(origins.shape, generator=draw), dim=-1).to(dtype)
    offset = torch.rand(len(origins), generator=draw).to(dtype)
    mix = torch.randn(len(origins), 6, generator=draw).to(dtype)
    out = render(
        field, origins, directions, samples=24, shading=shading, light=light, offset=offset, normal_step=0.05, **options
    )
    flat = torch.cat([out.colour, out.opacity[:, None], out.depth[:, None], out.orientation[:, None]], dim=1)
    gradients = torch.autograd.grad((flat * mix).sum(), list(field.parameters()))
    return flat, gradients, out


@pytest.mark.parametrize("shading", ["albedo", "lambertian", "textureless"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fast_path_equals_the_float64_loop_with_gradients(shading, dtype):
    wanted, wanted_gradients, _ = parameters_of_loss(render_rays_reference, random_field(torch.float64), shading)
    got, gradients, _ = parameters_of_loss(render_rays, random_field(dtype), shading)
    # Normals divide a difference of float32 densities by its small norm: a digit and a half is lost there.
    loose = {"rtol": 3e-3, "atol": 3e-4} if dtype == torch.float32 and shading != "albedo" else {}
    tolerance = loose or ({"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else close(dtype))
    assert_close(got.double(), wanted, **tolerance)
    for have, want in zip(gradients, wanted_gradients, strict=True):
        scale = want.abs().max()
        assert scale > 0 or shading == "textureless"
        assert_close(have.double() / scale, want / scale, **tolerance)


def test_skipping_nothing_changes_nothing():
    everywhere = OccupancyGrid(torch.ones(4, 4, 4, dtype=torch.bool), 1.1)
    wanted, wanted_gradients, full = parameters_of_loss(render_rays, random_field(), "lambertian")
    got, gradients, same = parameters_of_loss(render_rays, random_field(), "lambertian", occupancy=everywhere)
    assert torch.equal(got, wanted)
    assert all(torch.equal(a, b) for a, b in zip(gradients, wanted_gradients, strict=True))
    assert full.queried == same.queried


def test_skipped_cells_count_as_empty_with_exact_gradients():
    half = torch.zeros(2, 2, 2, dtype=torch.bool)
    half[0] = True  # x < 0 is kept
    kept = OccupancyGrid(half, 1.1)

    class Halved(TriplaneField):
        def forward(self, points):
            density, albedo = super().forward(points)
            return density * (points[:, 0] < 0), albedo

    field = random_field(torch.float64)
    halved = Halved(1.1, resolution=10, channels=4, hidden=8).double()
    halved.load_state_dict(field.state_dict())
    wanted, wanted_gradients, _ = parameters_of_loss(render_rays_reference, halved, "albedo")
    got, gradients, out = parameters_of_loss(render_rays, field, "albedo", occupancy=kept)
    assert_close(got, wanted, **close(torch.float64))
    for have, want in zip(gradients, wanted_gradients, strict=True):
        assert_close(have, want, **close(torch.float64))
    _, _, full = parameters_of_loss(render_rays, field, "albedo")
    assert 0.3 < out.queried / full.queried < 0.7


def test_a_solid_looks_the_same_through_its_occupancy_grid():
    field = SolidField(sphere(0.4), width=0.02)
    origins, directions = rays(16)
    grid = occupancy_of(field, resolution=32, threshold=1e-3)
    wanted = render_rays(field, origins, directions, samples=64)
    got = render_rays(field, origins, directions, samples=64, occupancy=grid)
    assert_close(got.colour, wanted.colour, rtol=0, atol=1e-4)
    assert_close(got.opacity, wanted.opacity, rtol=0, atol=1e-4)
    assert got.queried < 0.3 * wanted.queried


def test_haze_is_shaded_halfway_and_nothing_else_changes():
    wanted, _, _ = parameters_of_loss(render_rays, random_field(), "lambertian")
    got, _, _ = parameters_of_loss(render_rays, random_field(), "lambertian", least_weight=1e-3)
    assert torch.equal(got[:, 3:5], wanted[:, 3:5])
    error = (got[:, :3] - wanted[:, :3]).abs().max()
    assert 0 < error <= 24 * 1e-3 * 0.3  # each of 24 samples is at most 0.3 lighter or darker
    haze, _, _ = parameters_of_loss(render_rays, random_field(), "lambertian", least_weight=2.0)
    albedo, _, _ = parameters_of_loss(render_rays, random_field(), "albedo")
    assert_close(haze[:, :3], 0.7 * albedo[:, :3], **close(torch.float32))


def test_rays_that_miss_see_nothing():
    origins, directions = torch.tensor([[0.0, 5.0, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    rendered = render_rays(random_field(), origins, directions, samples=16)
    assert torch.equal(rendered.colour, torch.zeros(1, 3))
    assert float(rendered.opacity) == 0
    assert rendered.queried == 0

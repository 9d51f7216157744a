import pytest
import torch
from scipy.ndimage import map_coordinates
from torch.testing import assert_close

from dreamfusion.fields.field import (
    DENSITY_SCALE,
    BendingField,
    GridField,
    TrainableField,
    TriplaneField,
    density_blob,
)

FIELDS = {
    "triplane": lambda seed=0: TriplaneField(1.1, resolution=12, generator=torch.Generator().manual_seed(seed)),
    "grid": lambda seed=0: GridField(1.1, resolution=12, levels=3, generator=torch.Generator().manual_seed(seed)),
}


def points(count: int = 50, reach: float = 1.0) -> torch.Tensor:
    return (2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(1)) - 1) * reach


def at(grid: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Multilinear values of `grid` "c n ..." at coordinates in [-1, 1], by scipy; the last axis is x."""
    index = (where.flip(-1) + 1) / 2 * (torch.tensor(grid.shape[1:]) - 1)
    rows = [torch.from_numpy(map_coordinates(c.detach().numpy(), index.T.numpy(), order=1)) for c in grid]
    return torch.stack(rows, dim=-1)


def summed(grids) -> torch.Tensor:
    """Levels resampled one after the other to the next finer grid's nodes, and added, by scipy."""
    total = grids[0][0]
    for (grid,) in grids[1:]:
        axes = [torch.linspace(-1, 1, n) for n in grid.shape[1:]]
        nodes = torch.cartesian_prod(*axes).flip(-1)
        total = grid + at(total, nodes).T.reshape(grid.shape)
    return total


def test_triplane_is_its_three_planes_through_its_network():
    field = FIELDS["triplane"]()
    assert [p.shape[-1] for p in field.planes] == [3, 6, 12]
    where = points() / 1.1
    xy, zy, xz = (summed([level[k : k + 1] for level in field.planes]) for k in range(3))
    features = at(xy, where[:, [0, 1]]) + at(zy, where[:, [2, 1]]) + at(xz, where[:, [0, 2]])
    wanted = field.last(torch.relu(field.first(features.float())))
    assert_close(field.raw(points()), wanted, rtol=1e-5, atol=1e-5)


def test_grid_is_the_sum_of_its_levels():
    field = FIELDS["grid"]()
    assert [g.shape[-1] for g in field.grids] == [3, 6, 12]
    wanted = at(summed(list(field.grids)), points() / 1.1).float()
    assert_close(field.raw(points()), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", FIELDS)
def test_field_keeps_the_protocol(kind):
    field = FIELDS[kind]()
    assert isinstance(field, TrainableField)
    density, albedo = field(points(reach=1.3))
    assert (density >= 0).all()
    assert ((albedo > 0) & (albedo < 1)).all()
    assert_close(field.density(points()), field(points())[0])
    edge = torch.tensor([[1.1, 0.3, -1.1]])
    beyond = torch.tensor([[1.5, 0.3, -4.0]])
    assert_close(field.raw(edge), field.raw(beyond))


@pytest.mark.parametrize("kind", FIELDS)
def test_gradients_reach_every_parameter_and_equal_finite_differences(kind):
    field = FIELDS[kind]().double()
    where = points(20).double()

    def value():
        density, albedo = field(where)
        return (density / DENSITY_SCALE).square().mean() + albedo.square().mean()

    gradients = torch.autograd.grad(value(), list(field.parameters()))
    for parameter, gradient in zip(field.parameters(), gradients, strict=True):
        along = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)).double()
        slope = float((gradient * along).sum())
        with torch.no_grad():
            parameter += 1e-6 * along
            above = float(value())
            parameter -= 2e-6 * along
            below = float(value())
            parameter += 1e-6 * along
        assert slope != 0
        assert (above - below) / 2e-6 == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("kind", FIELDS)
def test_parameter_groups_hold_each_parameter_once(kind):
    field = FIELDS[kind]()
    grouped = [p for group in field.parameter_groups(0.01) for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, field.parameters()))


@pytest.mark.parametrize("kind", FIELDS)
def test_same_generator_same_field(kind):
    one, same, other = (FIELDS[kind](seed)(points())[1] for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_blob_is_a_cone_with_a_floor():
    radii = torch.tensor([0.0, 0.25, 0.5, 1.0, 30.0])
    where = radii[:, None] * torch.tensor([[0.6, 0.0, 0.8]])
    assert_close(density_blob(where, 4.0, 0.5, floor=-6.0), torch.tensor([4.0, 2.0, 0.0, -4.0, -6.0]))


@pytest.mark.parametrize("kind", FIELDS)
def test_new_field_is_opaque_in_the_middle_and_clear_at_the_rim(kind):
    field = FIELDS[kind]()
    # Absorbed over a tenth of a world unit.
    with torch.no_grad():
        density = field.density(torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.05, 0.0], [0.8, 0.0, 0.8]]))
    absorbed = 1 - torch.exp(-0.1 * density)
    assert absorbed[0] > 0.95
    assert (absorbed[1:] < 0.15).all()


@pytest.mark.parametrize("name", FIELDS)
def test_bending_is_of_ripples_and_not_of_slopes(name):
    """Of a parabola a x^2 every second difference is 2 a, along x alone."""
    field = FIELDS[name]()
    assert isinstance(field, BendingField)
    *coarse, finest = field.planes if name == "triplane" else field.grids
    with torch.no_grad():
        for level in coarse:
            level.zero_()
        x = torch.arange(finest.shape[-1], dtype=torch.float32)
        finest.copy_((3 * x + 7).expand_as(finest))
        assert float(field.bending()) == pytest.approx(0, abs=1e-9)
        finest.copy_((0.5 * x.square()).expand_as(finest))
        assert float(field.bending()) == pytest.approx(1.0, rel=1e-5)

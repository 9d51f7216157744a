import pytest
import torch

from dreamfusion.fields.occupancy import OccupancyGrid, cell_densities, occupancy_of
from tests.dreamfusion.shapes import VOLUMES, SolidField


def test_cell_densities_are_indexed_x_y_z():
    field = SolidField(lambda p: p[:, 0] + 10 * p[:, 1] + 100 * p[:, 2], radius=1.0, peak=1.0, width=50.0)
    density = cell_densities(field, 4)
    centres = torch.tensor([-0.75, -0.25, 0.25, 0.75])
    for x, y, z in [(0, 1, 2), (3, 0, 1), (2, 2, 3)]:
        where = torch.stack([centres[x], centres[y], centres[z]])[None]
        assert torch.equal(density[x, y, z], field.density(where)[0])


@pytest.mark.parametrize("shape", VOLUMES)
def test_no_dense_point_is_skipped_and_most_empty_ones_are(shape):
    distance, volume = VOLUMES[shape]
    field = SolidField(distance, radius=1.2)
    grid = occupancy_of(field, resolution=24, threshold=0.2)
    points = (2 * torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0)) - 1) * 1.2
    dense = field.density(points) > 0.2
    kept = grid(points)
    assert kept[dense].all()
    far = distance(points) > 3 * 0.1 * 3**0.5  # three cells' diagonals
    assert not kept[far].any()
    assert volume / 2.4**3 < grid.occupied_fraction < 0.6


def test_a_point_reads_its_own_cell():
    cells = torch.zeros(4, 4, 4, dtype=torch.bool)
    cells[3, 0, 1] = True
    grid = OccupancyGrid(cells, radius=2.0)
    inside = torch.tensor([[1.01, -1.99, -0.99], [1.99, -1.01, -0.01], [9.0, -9.0, -0.5]])
    outside = torch.tensor([[0.99, -1.5, -0.5], [1.5, -0.99, -0.5], [1.5, -1.5, 0.01]])
    assert grid(inside).all()
    assert not grid(outside).any()

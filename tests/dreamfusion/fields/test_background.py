import torch
from torch.testing import assert_close

from dreamfusion.fields.background import GREY_RANGE, BackgroundNetwork, random_grey


def test_greys_are_uniform_grey_and_one_a_view():
    grey = random_grey(4000, torch.Generator().manual_seed(0))
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    low, high = GREY_RANGE
    quantiles = grey[:, 0].quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert_close(quantiles, torch.linspace(low, high, 5), rtol=0, atol=0.01)
    assert torch.equal(random_grey(4000, torch.Generator().manual_seed(0)), grey)


def test_network_learns_a_sky_over_a_ground():
    network = BackgroundNetwork(generator=torch.Generator().manual_seed(0))
    directions = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    wanted = torch.where(directions[:, 1:2] > 0, torch.tensor([[0.3, 0.5, 0.9]]), torch.tensor([[0.4, 0.3, 0.2]]))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    with torch.no_grad():
        first = (network(directions) - wanted).square().mean()
    for _ in range(100):
        loss = (network(directions) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.15 * first

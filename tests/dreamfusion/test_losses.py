import pytest
import torch
from torch.testing import assert_close

from dreamfusion.fields.field import TriplaneField
from dreamfusion.losses import opacity_loss, orientation_terms
from dreamfusion.render.volume import render_rays
from shared.cameras import orbit
from tests.tolerances import close


def test_opacity_loss_closed_form():
    opacity = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    loss = opacity_loss(opacity)
    assert_close(loss, torch.tensor((0.01**0.5 + 0.26**0.5 + 1.01**0.5) / 3))
    (gradient,) = torch.autograd.grad(loss, opacity)
    assert_close(gradient, opacity.detach() / (opacity.detach() ** 2 + 0.01).sqrt() / 3, **close(torch.float32))


def test_orientation_counts_only_normals_that_face_away():
    weights = torch.tensor([0.5, 0.5, 0.5])
    normals = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.6, 0.0, 0.8]])
    away_from_camera = torch.tensor([[0.0, 0.0, 1.0]]).expand(3, 3)
    assert_close(orientation_terms(weights, normals, away_from_camera), torch.tensor([0.5, 0.0, 0.32]))


def test_orientation_keeps_weights_constant_and_normals_alive():
    weights = torch.tensor([0.5], requires_grad=True)
    normals = torch.tensor([[0.6, 0.0, 0.8]], requires_grad=True)
    terms = orientation_terms(weights, normals, torch.tensor([[0.0, 0.0, 1.0]]))
    to_weights, to_normals = torch.autograd.grad(terms.sum(), (weights, normals), allow_unused=True)
    assert to_weights is None
    assert_close(to_normals, torch.tensor([[0.0, 0.0, 2 * 0.5 * 0.8]]))


@pytest.mark.parametrize("which", ["opacity", "orientation"])
def test_gradients_reach_the_density_and_point_downhill(which):
    """One small step along the negative gradient of the density's parameters lowers the loss as predicted."""
    field = TriplaneField(1.1, resolution=8, generator=torch.Generator().manual_seed(0)).double()

    def loss():
        out = render_double(field)
        return opacity_loss(out.opacity) if which == "opacity" else out.orientation.mean()

    value = loss()
    gradients = torch.autograd.grad(value, list(field.parameters()))
    assert all(g.abs().max() > 0 for g in gradients[:-1])
    assert gradients[-1][0] != 0  # the last bias: density first, then albedo,
    assert torch.equal(gradients[-1][1:], torch.zeros(3, dtype=torch.float64))  # which these losses leave alone
    square = float(sum((g**2).sum() for g in gradients))
    step = 1e-4 * float(value) / square
    with torch.no_grad():
        for parameter, gradient in zip(field.parameters(), gradients, strict=True):
            parameter -= step * gradient
    # The orientation loss holds its weights constant, so its true slope differs; it must still fall.
    predicted = step * square
    fallen = float(value) - float(loss())
    assert fallen == pytest.approx(predicted, rel=0.01) if which == "opacity" else fallen > 0.2 * predicted


def render_double(field):
    origins, directions = (r.reshape(-1, 3).double() for r in orbit([30.0], [20.0], height=8, width=8).rays())
    return render_rays(field, origins, directions, samples=16, shading="lambertian", light=-directions)

"""What renders are told: by an image model each alone, by a teacher of several views all together."""

import math

import pytest
import torch

from dreamfusion.critics import ViewTeacher, view_critic
from dreamfusion.distill import distill, view_teacher
from dreamfusion.recipe import AssetRecipe
from dreamfusion.views import sample_views
from shared.cameras import orbit
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.step_noise import standard_normal
from shared.errors import ModelError
from shared.models.image_model import load_image_model
from shared.rng import generator
from tests.tiny import build_image_folder

TINY = AssetRecipe(
    prompt="a red cube, front view", steps=2, samples=16, coarse_render_size=8, render_size=16, field_resolution=12,
    guidance_scale=1.0, view_guidance_scale=1.0, fit_steps=0, teacher="auto",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_image_model(build_image_folder(tmp_path_factory.mktemp("tiny") / "model"))


class Knowing(torch.nn.Module):
    """Knows every view: it is as bright as the cosine of its azimuth. Remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x_t, t, text, camera, frame_text):
        self.asked.append((x_t, t, text, camera, frame_text))
        return torch.cos(torch.deg2rad(camera[..., 0]))[:, None, :, None, None].expand_as(x_t)


class Grey(torch.nn.Module):
    """What is said of each view alone."""

    def forward(self, x_t, t, text, camera, frame_text):
        return torch.zeros_like(x_t)


def teacher(model, network):
    return ViewTeacher(Denoiser(network, model.schedule, "sample"), Grey(), standard_normal)


def test_views_of_one_height_stand_evenly_around_and_are_lit_alike():
    views = sample_views(4, 16, generator(3), level=True)
    azimuth = torch.tensor(views.azimuth)
    assert azimuth.diff().remainder(360).tolist() == pytest.approx([90.0] * 3, abs=1e-3)
    assert len(set(views.elevation)) == 1
    seen = torch.stack([
        orbit([a], [e]).camera_to_world[0, :3, :3].T @ light
        for a, e, light in zip(views.azimuth, views.elevation, views.light, strict=True)
    ])  # fmt: skip
    assert float((seen - seen[0]).abs().max()) < 1e-5
    heights = {round(sample_views(4, 16, generator(i), level=True).elevation[0], 3) for i in range(8)}
    assert len(heights) == 8
    assert len(set(sample_views(4, 16, generator(3)).elevation)) == 4


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_teacher_is_asked_about_all_views_at_once_and_pulls_each_to_its_own(model, scale):
    """And so much further away from what it says of each alone."""
    network = Knowing()
    recipe = TINY.model_copy(update={"view_guidance_scale": scale})
    critic = view_critic(model, recipe, teacher(model, network))
    views = sample_views(4, 32, generator(1), level=True)
    pixels = torch.rand(4, 3, 32, 32, generator=generator(2)).mul(2).sub(1).requires_grad_()
    loss, rms = critic(pixels, views, 0.0, 0)
    ((x_t, t, text, camera, frame_text),) = network.asked
    assert x_t.shape == (1, 4, 4, 16, 16)
    assert torch.equal(text, model.text.encode(["a red cube"]))
    wanted = torch.tensor([views.azimuth, views.elevation]).T[None]
    torch.testing.assert_close(camera, wanted)
    assert len(set(views.words)) > 1
    assert torch.equal(frame_text[0], model.text.encode([f"a red cube, {word}" for word in views.words]))
    with torch.no_grad():
        size = (model.default_size, model.default_size)
        larger = torch.nn.functional.interpolate(pixels, size, mode="bilinear", align_corners=False)
        latents = model.codec.encode(larger).transpose(0, 1)[None]
        x0 = scale * torch.cos(torch.deg2rad(camera[..., 0]))[:, None, :, None, None]
        alpha, sigma = model.schedule.alpha(t), model.schedule.sigma(t)
        gradient = sigma**2 * (alpha / sigma) * (latents - x0)  # w(t) (eps_hat - eps), as in sds.py
    assert rms == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-3)
    (change,) = torch.autograd.grad(loss, pixels)
    assert math.isfinite(float(change.abs().sum()))
    assert float(change.abs().amax(dim=(1, 2, 3)).min()) > 0


def test_the_recipe_says_who_is_asked(model):
    network = Knowing()
    views = teacher(model, network)
    for name, given, asked in (("auto", views, views), ("auto", None, None), ("image", views, None)):
        assert view_teacher(TINY.model_copy(update={"teacher": name}), given) is asked
    with pytest.raises(ModelError, match=r"expected a model trained on views.*--teacher image"):
        next(distill(model, TINY.model_copy(update={"teacher": "views"})))
    states = list(distill(model, TINY, views=views))
    assert [x_t.shape[2] for x_t, *_ in network.asked] == [4, 4]
    assert states[-1].pixels.shape[0] == 4
    network.asked.clear()
    list(distill(model, TINY.model_copy(update={"teacher": "image"}), views=views))
    assert not network.asked

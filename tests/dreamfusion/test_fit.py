"""A field fitted to pictures: of a ball whose pictures are known exactly, and to what a teacher of views samples."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dreamfusion.critics import ViewTeacher
from dreamfusion.distill import ViewsState, distill, skipped
from dreamfusion.fields.occupancy import occupancy_of
from dreamfusion.fit import (
    BENDING_WEIGHT,
    LEAST,
    Photometry,
    Pictures,
    fit,
    lit,
    pictures_of,
    resized,
    ring,
    sample_ring,
    silhouette_loss,
)
from dreamfusion.mesh.extract import choose_threshold, extract_mesh, silhouette_views
from dreamfusion.optimise import DistillState, optimise
from dreamfusion.recipe import AssetRecipe
from dreamfusion.scene import new_scene
from shared.cameras import ELEVATION, LIGHT_ELEVATION, LIGHT_SPREAD, direction
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.sampling import SampleState
from shared.diffusion.step_noise import standard_normal
from shared.models.image_model import load_image_model
from tests.dreamfusion.test_critics import Grey
from tests.dreamfusion.test_distill import ball_picture
from tests.tiny import build_image_folder

TINY = AssetRecipe(
    prompt="a red cube, side view", steps=4, samples=16, coarse_render_size=8, render_size=16, field_resolution=12,
    guidance_scale=1.0, fit_guidance_scale=1.0, fit_steps=3, fit_views=4, fit_sampling_steps=2, fit_share=0.5,
    teacher="auto",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_image_model(build_image_folder(tmp_path_factory.mktemp("tiny") / "model"))


class Knowing(torch.nn.Module):
    """Knows every view: the latents of a thing whose brightness follows its azimuth. Remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x_t, t, text, camera, frame_text):
        self.asked.append((text, camera, frame_text))
        return torch.cos(torch.deg2rad(camera[..., 0]))[:, None, :, None, None].expand_as(x_t)


def knowing(model):
    return ViewTeacher(Denoiser(Knowing(), model.schedule, "sample"), Grey(), standard_normal)


def test_a_field_fitted_to_pictures_of_a_ball_is_that_ball():
    recipe = TINY.model_copy(update={"render_size": 24, "samples": 20, "field_resolution": 16, "fit_steps": 60})
    views = ring(8, 24)
    pictures = Pictures(views, ball_picture(views, torch.linspace(0.3, 0.7, 8)))
    states = list(fit(new_scene(recipe), pictures, recipe))
    assert [state.pixels.shape for state in states[::20]] == [(8, 3, 6, 6), (4, 3, 12, 12), (2, 3, 24, 24)]
    assert states[-1].gradient_rms < 0.1 < states[0].gradient_rms
    field = states[-1].scene.field
    mesh = extract_mesh(field, choose_threshold(field, silhouette_views(32)).density, resolution=40)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * 0.7**3, rel=0.15)
    assert abs(mesh.centroid).max() < 0.05
    colours = torch.tensor(mesh.visual.vertex_colors[:, :3] / 255.0)
    height = torch.tensor(np.array(mesh.vertices))[:, 1]
    seen = (height > 0) & (height < 0.5)
    assert_close(colours[seen].mean(dim=0), torch.tensor([0.2, 0.8, 0.3]).double(), rtol=0, atol=0.16)


def test_a_field_that_bends_costs_and_one_that_cannot_say_costs_nothing():
    views = ring(4, 16)
    asked = Photometry(Pictures(views, ball_picture(views, torch.full((4,), 0.5))), TINY)
    scene = new_scene(TINY)
    plain = replace(scene, field=Unbent(scene.field))
    costs = [float(asked(each, occupancy_of(each.field), 0.0, 0).loss) for each in (scene, plain)]
    assert costs[0] - costs[1] == pytest.approx(BENDING_WEIGHT * float(scene.field.bending()), rel=1e-3)


class Unbent:
    """A field of a plug-in's, which has no more than it must."""

    def __init__(self, field):
        self.radius, self.field = field.radius, field
        self.density, self.parameter_groups = field.density, field.parameter_groups

    def __call__(self, points):
        return self.field(points)


def test_every_view_is_seen_equally_often_at_each_size():
    recipe = TINY.model_copy(update={"fit_steps": 24, "fit_views": 8})
    views = ring(8, 16)
    asked = Photometry(Pictures(views, ball_picture(views, torch.full((8,), 0.5))), recipe)
    scene = new_scene(recipe)
    seen: dict[int, list[float]] = {}

    def counted(scene, occupancy, done, step):
        judged = asked(scene, occupancy, done, step)
        seen.setdefault(judged.pixels.shape[-1], []).append(len(judged.pixels))
        return judged

    list(optimise(scene, counted, steps=24, learning_rate=0.02))
    assert seen == {4: [8] * 8, 8: [4] * 8, 16: [2] * 8}


def test_a_matte_is_the_share_that_the_thing_covers():
    """A red square over grey whose edges lie within pixels: its matte is the share of each pixel that it covers."""
    fine = torch.full((1, 3, 64, 64), 0.1)
    fine[:, 0, 18:46, 18:46] = 0.9
    fine[:, 1:, 18:46, 18:46] = -0.7
    pictures = Pictures(ring(1, 16), resized(fine, 16))
    assert_close(pictures.background, torch.full((1, 3), 0.1))
    covered = resized((fine[:, :1] > 0.5).float(), 16)[:, 0]
    assert_close(pictures.matte, covered)
    nothing = Pictures(ring(1, 16), 0.1 + 0.02 * torch.rand(1, 3, 16, 16))
    assert not nothing.matte.any()


def test_a_faint_part_beside_a_clear_one_is_covered_too():
    """It differs less than its neighbours, but so do all of these: this is no edge."""
    pixels = torch.zeros(1, 3, 16, 16)
    pixels[:, :, 3:8, 3:13] = 0.9
    pixels[:, :, 8:13, 3:13] = 0.2
    matte = Pictures(ring(1, 16), pixels).matte[0]
    assert bool((matte[4:12, 4:12] == 1).all())
    assert bool((matte[:2] == 0).all())


def test_light_goes_along_with_the_camera():
    """In the middle of the world's range at first, and never outside of it."""
    azimuth = torch.tensor([0.0, 90.0, 200.0])
    assert_close(lit(azimuth, torch.zeros(2)), direction(azimuth, torch.full((3,), 45.0)))
    far = lit(azimuth, torch.tensor([9.0, -9.0]))
    assert_close(far, direction(azimuth + LIGHT_SPREAD, torch.full((3,), LIGHT_ELEVATION[0])), rtol=0, atol=1e-4)


def test_the_light_of_pictures_is_found():
    """Of a ball, whose pictures are lit from the right and from low."""
    recipe = TINY.model_copy(update={"render_size": 24, "samples": 20, "field_resolution": 16, "fit_steps": 60})
    views, lamp = ring(8, 24), torch.tensor([0.6, -0.5])
    views = replace(views, light=lit(torch.tensor(views.azimuth), lamp))
    asked = Photometry(Pictures(views, ball_picture(views, torch.full((8,), 0.5))), recipe)
    list(optimise(new_scene(recipe), asked, steps=60, learning_rate=0.05, beside=[asked.lamp]))
    before, after = lit(torch.zeros(1), torch.zeros(2)), lit(torch.zeros(1), asked.lamp.detach())
    wanted = lit(torch.zeros(1), lamp)
    assert float((after * wanted).sum()) > max(0.95, float((before * wanted).sum()))


def test_silhouettes_pull_as_cross_entropy_does():
    opacity, matte = torch.tensor([0.2, 0.7, 0.5]), torch.tensor([0.0, 1.0, 0.5])
    wanted = -(math.log(0.8) + math.log(0.7) + math.log(0.5)) / 3
    assert float(silhouette_loss(opacity, matte)) == pytest.approx(wanted)
    assert float(silhouette_loss(torch.tensor([0.0]), torch.tensor([1.0]))) == pytest.approx(-math.log(LEAST), rel=1e-3)


def test_views_stand_evenly_around_and_choose(model):
    views = ring(8, 16)
    assert views.azimuth == tuple(45.0 * i for i in range(8))
    assert set(views.elevation) == {sum(ELEVATION) / 2}
    some = views.chosen([1, 6], 8)
    assert (some.azimuth, len(some), some.cameras.height) == ((45.0, 270.0), 2, 8)
    assert torch.equal(some.cameras.camera_to_world, views.cameras.camera_to_world[[1, 6]])
    assert torch.equal(some.light, views.light[[1, 6]])


def test_what_is_sampled_is_what_the_teacher_knows_of_each_camera(model):
    teacher = knowing(model)
    *_, last = sample_ring(model, TINY, teacher)
    assert last.latents.shape == (1, 4, 4, 16, 16)
    wanted = torch.cos(torch.deg2rad(torch.tensor([0.0, 90.0, 180.0, 270.0])))
    assert_close(last.latents, wanted[None, None, :, None, None].expand_as(last.latents), atol=1e-3, rtol=0)
    text, camera, frame_text = teacher.denoiser.network.asked[0]
    assert torch.equal(text, model.text.encode(["a red cube"]))
    seen = [f"a red cube, {side} view" for side in ("front", "side", "back", "side")]
    assert torch.equal(frame_text[0], model.text.encode(seen))
    assert_close(camera, torch.tensor([[[a, sum(ELEVATION) / 2] for a in (0.0, 90.0, 180.0, 270.0)]]))
    pictures = pictures_of(model, last.latents)
    assert_close(pictures.pixels, model.codec.decode(last.latents[0].transpose(0, 1)).detach())


def test_what_is_sampled_goes_away_from_what_each_view_is_alone(model):
    *_, last = sample_ring(model, TINY.model_copy(update={"view_guidance_scale": 3.0}), knowing(model))
    wanted = 3 * torch.cos(torch.deg2rad(torch.tensor([0.0, 90.0, 180.0, 270.0])))  # alone each is 0
    assert_close(last.latents, wanted[None, None, :, None, None].expand_as(last.latents), atol=3e-3, rtol=0)


def test_a_fit_stands_in_for_the_first_steps(model):
    """Sampling, fitting and the rest of the distillation count as one run; each kind of state can be shown."""
    states = list(distill(model, TINY, views=knowing(model)))
    assert skipped(TINY) == 2
    assert [(state.step, state.total) for state in states] == [(i, 7) for i in range(1, 8)]
    assert [type(state) for state in states] == [ViewsState] * 2 + [DistillState] * 5
    assert all(isinstance(state, SampleState) and state.gradient_rms is None for state in states[:2])
    assert all(state.scene is states[-1].scene for state in states)
    none = list(distill(model, TINY.model_copy(update={"fit_steps": 0}), views=knowing(model)))
    assert [state.total for state in none] == [4] * 4
    alone = list(distill(model, TINY.model_copy(update={"fit_share": 1.0}), views=knowing(model)))
    assert [state.total for state in alone] == [5] * 5
    image = list(distill(model, TINY.model_copy(update={"teacher": "image"}), views=knowing(model)))
    assert [(state.step, state.total) for state in image] == [(i, 4) for i in range(1, 5)]


def test_the_fit_shows_in_what_distillation_begins_with(model):
    """What the first step of the rest renders is the fitted field, and its noise is that of its place in the run."""
    teacher = knowing(model)
    states = list(distill(model, TINY, views=teacher))
    again = list(distill(model, TINY, views=knowing(model)))
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(states[:2], again[:2], strict=True))
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(states[2:], again[2:], strict=True))
    other = list(distill(model, TINY.model_copy(update={"seed": 1}), views=knowing(model)))
    assert not torch.equal(states[-1].pixels, other[-1].pixels)

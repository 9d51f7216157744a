import math

import pytest
import torch
from torch.testing import assert_close

from dreamfusion.critics import score_critic
from dreamfusion.distill import distill, distillation
from dreamfusion.mesh.extract import choose_threshold, extract_mesh, silhouette_views
from dreamfusion.optimise import optimise
from dreamfusion.recipe import AssetRecipe
from dreamfusion.render.shading import shade
from dreamfusion.scene import Arrangement, Scene, new_scene, render_views
from dreamfusion.views import around
from shared.errors import KinoformError
from shared.models.image_model import load_image_model
from tests.dreamfusion.shapes import SolidField, sphere
from tests.tiny import build_image_folder

TINY = AssetRecipe(
    prompt="a red cube", steps=3, samples=16, coarse_render_size=8, render_size=16, field_resolution=12, views=2
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_image_model(build_image_folder(tmp_path_factory.mktemp("tiny") / "model"))


def ball_picture(views, grey: torch.Tensor) -> torch.Tensor:
    """Exact pictures, in [-1, 1], of a green ball of radius 0.7 with albedo (0.2, 0.8, 0.3), lit as the views say."""
    origins, directions = views.cameras.rays()
    towards = -(origins * directions).sum(dim=-1)
    miss = (origins + towards[..., None] * directions).square().sum(dim=-1)
    hit = miss < 0.49
    normal = (origins + (towards - (0.49 - miss).clamp(min=0).sqrt())[..., None] * directions) / 0.7
    light = views.light[:, None, None].expand_as(normal).reshape(-1, 3)
    albedo = torch.tensor([0.2, 0.8, 0.3]).expand(len(light), 3)
    colour = shade("lambertian", albedo, normal.reshape(-1, 3), light).view_as(normal)
    return 2 * torch.where(hit[..., None], colour, grey[:, None, None, None]).permute(0, 3, 1, 2) - 1


def ball_critic(pixels, views, done, step):
    """Equation 3 for a prior that knows just one ball: x0_hat is its picture. The corner pixel tells the grey."""
    x0 = ball_picture(views, (pixels[:, 0, 0, 0].detach() + 1) / 2)
    gradient = 0.5 * (pixels.detach() - x0)
    return (gradient * pixels).sum() / pixels.numel(), float(gradient.square().mean().sqrt())


def distilled(critic, recipe):
    objective = distillation(critic, recipe)
    return optimise(new_scene(recipe), objective, steps=recipe.steps, learning_rate=recipe.learning_rate)


def test_a_prior_that_knows_one_ball_makes_that_ball():
    recipe = AssetRecipe(
        prompt="a green ball", steps=60, samples=24, coarse_render_size=16, render_size=24, field_resolution=16,
        opacity_weight=0.005, lambertian_probability=1.0,
    )  # fmt: skip
    states = list(distilled(ball_critic, recipe))
    assert [s.step for s in states] == list(range(1, 61))
    assert {s.total for s in states} == {60}
    assert states[0].pixels.shape == (2, 3, 16, 16)
    assert states[-1].pixels.shape == (2, 3, 24, 24)
    field = states[-1].scene.field
    mesh = extract_mesh(field, choose_threshold(field, silhouette_views(32)).density, resolution=40)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * 0.7**3, rel=0.25)
    centre = mesh.centroid
    assert abs(centre).max() < 0.1
    colours = torch.tensor(mesh.visual.vertex_colors[:, :3] / 255.0).mean(dim=0)
    assert_close(colours, torch.tensor([0.2, 0.8, 0.3]).double(), rtol=0, atol=0.12)


def test_two_things_are_made_one_by_one_each_as_if_it_were_alone(model):
    pair = TINY.model_copy(update={"prompt": "a red cube next to a blue ball"})
    states = list(distill(model, pair))
    assert [(state.step, state.total) for state in states] == [(i, 6) for i in range(1, 7)]
    assert all(isinstance(state.scene, Scene) for state in states[:-1])
    both = states[-1].scene
    assert isinstance(both, Arrangement)
    assert both.relation == "next to"
    for thing, prompt in zip(both.things, ("a red cube", "a blue ball"), strict=True):
        *_, alone = distill(model, TINY.model_copy(update={"prompt": prompt}))
        wanted = alone.scene.field.state_dict()
        assert all(torch.equal(value, wanted[name]) for name, value in thing.field.state_dict().items())
    together = list(distill(model, pair.model_copy(update={"apart": False})))
    assert [(state.step, state.total) for state in together] == [(i, 3) for i in range(1, 4)]
    assert isinstance(together[-1].scene, Scene)


def test_same_seed_same_scene_and_another_seed_another(model):
    def weights(seed):
        recipe = TINY.model_copy(update={"seed": seed})
        *_, last = distill(model, recipe)
        return torch.cat([p.detach().flatten() for p in last.scene.field.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_every_choice_of_the_recipe_runs(model):
    changes = [
        {"field": "grid"}, {"background": "network"}, {"textureless_probability": 0.5, "lambertian_probability": 0.5},
        {"cfg_convention": "dreamfusion", "guidance_scale": 0.0}, {"guidance_rescale": 0.7}, {"views": 1},
    ]  # fmt: skip
    for change in changes:
        before = new_scene(TINY.model_copy(update=change))
        *_, last = distill(model, TINY.model_copy(update=change))
        assert math.isfinite(last.gradient_rms)
        start = dict(before.field.named_parameters())
        assert any(not torch.equal(start[name], p) for name, p in last.scene.field.named_parameters())
        if before.background is not None:
            assert not torch.equal(before.background.last.weight, last.scene.background.last.weight)


def test_nothing_of_the_prior_is_trained(model):
    assert all(p.grad is None for p in model.unet.parameters())
    list(distill(model, TINY))
    assert all(p.grad is None for p in model.unet.parameters())


def test_each_view_is_asked_about_with_its_own_words(model):
    """Each camera's row of the conditioning is the prompt with that camera's view words."""
    asked = []
    hook = model.unet.register_forward_pre_hook(
        lambda _, args, kwargs: asked.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    critic = score_critic(model, TINY)
    critic(torch.zeros(4, 3, 16, 16, requires_grad=True), around(4, 16), 0.0, 0)  # front, side, back, side
    hook.remove()
    uncond, cond = asked[0].chunk(2)
    words = ["a red cube, front view", "a red cube, side view", "a red cube, back view", "a red cube, side view"]
    assert_close(cond, model.text.encode(words))
    assert_close(uncond, model.text.encode([""] * 4))


def test_pixels_are_the_field_over_its_background():
    scene = Scene(SolidField(sphere(0.6), radius=1.1))
    pixels, rays = render_views(
        scene, around(2, 16), samples=48, shading="albedo", occupancy=None, draw=None, device="cpu"
    )
    opacity = rays.opacity.view(2, 16, 16)
    assert_close(pixels[:, :, 0, 0], torch.zeros(2, 3))  # mid grey
    colour = rays.colour.view(2, 16, 16, 3).permute(0, 3, 1, 2) + 0.5 * (1 - opacity[:, None])
    assert_close(pixels, 2 * colour - 1)


def test_divergence_is_said():
    def broken(pixels, views, done, step):
        return pixels.sum() * float("nan"), float("nan")

    with pytest.raises(KinoformError, match="the scene diverged at step 0"):
        next(distilled(broken, TINY))


def test_checkpointing_makes_the_same_scene(model):
    """View by view, and computed again for gradients: the same numbers in another order."""
    scenes = []
    for on in (False, True):
        recipe = TINY.model_copy(update={"checkpointing": on, "steps": 1, "albedo_first": 0.0})
        *_, last = distill(model, recipe)
        scenes.append((last.gradient_rms, last.pixels, [p.detach() for p in last.scene.field.parameters()]))
    assert scenes[0][0] == pytest.approx(scenes[1][0], rel=1e-4)
    assert_close(scenes[0][1], scenes[1][1])
    assert not any("forward" in vars(module) for module in model.codec.vae.modules())


def test_gradients_of_views_rendered_one_by_one_are_those_of_all_at_once():
    recipe = TINY.model_copy(update={"lambertian_probability": 1.0})
    views, found = around(3, 12), []
    for checkpointing in (False, True):
        scene = new_scene(recipe)
        pixels, rays = render_views(
            scene, views, samples=16, shading="lambertian", occupancy=None, draw=None, device="cpu",
            checkpointing=checkpointing,
        )  # fmt: skip
        loss = pixels.square().sum() + rays.orientation.sum() + rays.opacity.square().sum()
        found.append((loss.detach(), torch.autograd.grad(loss, list(scene.field.parameters())), rays.queried))
    assert_close(found[0][0], found[1][0])
    assert found[0][2] == found[1][2]
    for one, all_ in zip(found[1][1], found[0][1], strict=True):
        assert_close(one, all_, rtol=1e-4, atol=1e-5)  # sums over samples in another order

"""Plans of assets on a tiny model."""

import pytest

from dreamfusion.plan import asset_savings, plan_asset
from dreamfusion.recipe import AssetRecipe
from tests.tiny import build_image_folder

SMALL = {"field_resolution": 16, "samples": 16, "coarse_render_size": 16, "render_size": 32, "mesh_resolution": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(build_image_folder(tmp_path_factory.mktemp("plan") / "model"))


@pytest.fixture(scope="module")
def smallest(folder):
    return beyond_base(plan(folder))


def plan(folder, **changes):
    return plan_asset(AssetRecipe(model=folder, **{"prompt": "a red cube", **SMALL, **changes}))


def beyond_base(estimate):
    return estimate.peak - estimate.kinds["base"]


@pytest.mark.parametrize("change", [{"views": 8, "samples": 64}, {"render_size": 128}, {"mesh_resolution": 256}])
def test_more_takes_more(folder, smallest, change):
    assert beyond_base(plan(folder, **change)) > smallest


def test_savings_take_less_and_are_recipes(folder):
    recipe = AssetRecipe(prompt="a red cube", model=folder, **{**SMALL, "views": 8, "samples": 64})
    changes = list(asset_savings(recipe))
    assert changes[0] == {"checkpointing": True}
    for change in changes:
        AssetRecipe.parse({**recipe.resolved(), **change})
    smaller = AssetRecipe.parse({**recipe.resolved(), **changes[0]})
    assert beyond_base(plan_asset(smaller)) < beyond_base(plan_asset(recipe))


def test_two_things_take_twice_the_time_and_the_memory_of_one(folder):
    pair = "a red cube on top of a blue ball"
    one, two, together = plan(folder), plan(folder, prompt=pair), plan(folder, prompt=pair, apart=False)
    assert two.flops == pytest.approx(2 * one.flops, rel=0.01)
    assert together.flops == pytest.approx(one.flops, rel=0.01)
    assert two.peak == pytest.approx(one.peak, rel=0.01)

import subprocess
import sys

import pytest

from shared.errors import InputError
from shared.images.recipe import ImageRecipe


def test_defaults_are_complete_and_round_trip():
    recipe = ImageRecipe.parse({"prompt": "a red cube"})
    assert ImageRecipe.parse(recipe.resolved()) == recipe
    assert recipe.resolved()["model"] == "world"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n\t"}, "prompt"),
        ({"prompt": "x" * 2_001}, "prompt"),
        ({"prompt": "x" * 1_000_000}, "prompt"),
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "steps"),
        ({"guidance_scale": -0.1}, "guidance_scale"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"guidance_rescale": 1.1}, "guidance_rescale"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"width": 0}, "width"),
        ({"height": 10**9}, "height"),
        ({"model": ""}, "model"),
        ({"guidance_scal": 3}, "guidance_scale"),
    ],
)
def test_wrong_values_are_one_clear_line(wrong, message):
    with pytest.raises(InputError) as caught:
        ImageRecipe.parse({"prompt": "a red cube", **wrong})
    line = str(caught.value)
    assert message in line
    assert "expected" in line
    assert "\n" not in line
    assert len(line) < 300


def test_limits_themselves_are_allowed():
    ImageRecipe.parse({"prompt": "x" * 2000, "steps": 1000, "guidance_scale": 0, "seed": 2**63 - 1, "width": 4096})


def test_no_torch_is_imported():
    code = "import sys, shared.images.recipe; assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

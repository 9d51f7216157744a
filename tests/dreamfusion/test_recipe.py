import subprocess
import sys

import pytest

from dreamfusion.recipe import AssetRecipe
from shared.errors import InputError


def test_importing_the_recipe_imports_no_torch():
    code = "import sys, dreamfusion.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ""}, "prompt: expected 1 to 2000 characters"),
        ({"steps": 0}, "steps: expected a whole number from 1 to 100000, got 0"),
        ({"step": 5}, "unknown key step"),
        ({"t_min": 0.5}, "t_min must be less than t_max and t_max_final"),
        ({"lambertian_probability": 0.8, "textureless_probability": 0.3}, "must sum to 1 at most"),
        ({"background": "sky"}, "background: expected grey or network, got sky"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"print_size": "tall"}, "print_size: expected a length such as 80mm, 8cm or 3in, got tall"),
        ({"print_size": 0}, "print_size: expected a number above 0"),
    ],
)
def test_wrong_values_are_named(change, message):
    with pytest.raises(InputError, match=message):
        AssetRecipe.parse({"prompt": "a red cube", **change})


@pytest.mark.parametrize(
    ("given", "millimetres"),
    [("80", 80), ("80mm", 80), (" 8 CM ", 80), ("0.5m", 500), ("3in", 76.2), (".5cm", 5), (12.5, 12.5), (None, None)],
)
def test_a_print_size_has_a_unit(given, millimetres):
    size = AssetRecipe.parse({"prompt": "a red cube", "print_size": given}).print_size
    assert size == (millimetres if millimetres is None else pytest.approx(millimetres))

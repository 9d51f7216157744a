"""`kinoform image` on a tiny model."""

import json

import numpy as np
import pytest

from lab.main import main
from shared.artifacts.media import read_image
from shared.artifacts.run_record import read_record
from shared.images.generate import generate_image
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from tests.lab.command import is_refusal

SHORT = ["--steps", "4"]


@pytest.mark.parametrize("name", ["cube.png", "cube.webp"])
def test_the_picture_is_the_generator_s_and_has_its_record(model, tmp_path, name):
    path = tmp_path / name
    assert main(["image", "a red cube", "--model", str(model), *SHORT, "--seed", "3", "-o", str(path)]) == 0
    record = read_record(path)
    recipe = ImageRecipe.parse(record.recipe)
    *_, last = generate_image(load_image_model(model), recipe)
    np.testing.assert_array_equal(read_image(path), last.images[0])
    assert (record.command, record.seed, recipe.steps) == ("image", 3, 4)
    assert not any(file.startswith("temporal") for file in record.model.hashes)


def test_json(model, tmp_path, capsys):
    path = tmp_path / "cube.jpg"
    assert main(["image", "a red cube", "--model", str(model), *SHORT, "-o", str(path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["outputs"], result["unknown_words"], result["warnings"]) == ([str(path)], [], [])


def test_a_size_that_the_codec_cannot_make_is_one_line(model, tmp_path, capsys):
    code = main(["image", "a cube", "--model", str(model), "--size", "66x64", "-o", str(tmp_path / "cube.png")])
    assert is_refusal(code, capsys.readouterr().err, "width", "a multiple of 4", "got 66")
    assert not list(tmp_path.iterdir())


def test_a_scheduler_that_does_not_suit_is_refused_before_the_weights_are_loaded(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("shared.models.image_model.load_image_model", None)
    asked = ["image", "a cube", "--model", str(model), "-o", str(tmp_path / "cube.png")]
    for name in ("flow-match-heun-discrete", "heun"):
        code = main([*asked, "--scheduler", name])
        assert is_refusal(code, capsys.readouterr().err, "heun-discrete", f"Did you mean {'heun-discrete'}?")

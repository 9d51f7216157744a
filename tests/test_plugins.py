"""A package of others adds a kind, a guidance, a field and a scorer; a broken one is told, and stops nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dreamfusion.asset import export_asset
from dreamfusion.distill import distill
from dreamfusion.recipe import AssetRecipe
from lab.commands import doctor
from lab.kinds import kinds
from lab.main import main
from lab.parser import parse
from lab.session import load
from shared import plugins
from shared.artifacts.media import read_image, write_image
from shared.artifacts.run_record import read_record
from shared.errors import InputError, KinoformError
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model

PLUGIN = Path(__file__).parent / "plugin"
MOST_LINES = 40


pytestmark = pytest.mark.usefixtures("with_plugin")


def test_each_is_small():
    for file in (PLUGIN / "kinoform_example").glob("*.py"):
        assert len(file.read_text("utf-8").splitlines()) <= MOST_LINES, file


def test_a_new_kind_has_a_command_a_record_a_rerun_a_plan_and_python(tmp_path):
    out, again = tmp_path / "p.png", tmp_path / "again.png"
    flags = ["--steps", "2", "--frame", "3", "--device", "cpu"]
    assert main(["poster", "a red cube", "-o", str(out), *flags]) == 0
    pixels = read_image(out)
    assert pixels.shape == (70, 70, 3)
    assert not pixels[:3].any()
    assert read_record(out).command == "poster"
    assert main(["rerun", str(out), "-o", str(again), "--device", "cpu"]) == 0
    assert again.read_bytes() == out.read_bytes()
    assert main(["plan", "poster", "a red cube", "--device", "cpu"]) == 0
    made = load(device="cpu").make("poster", "a red cube", steps=2, frame=3)
    assert np.array_equal(made.pixels, pixels)
    assert list(kinds()) == ["clip", "image", "asset", "poster"]


def test_a_new_kind_is_refused_in_its_own_words():
    with pytest.raises(InputError, match="frame: expected a whole number from 0 to 64"):
        load(device="cpu").make("poster", "a red cube", frame=99)
    with pytest.raises(InputError, match=r"expected clip or image or asset or poster, got postr\. Did you mean poster"):
        load(device="cpu").make("postr", "a red cube")


def test_a_new_guidance_steers_pictures_as_its_wrappers_do():
    lab = load(device="cpu")
    usual, middle = (lab.image("a red cube", steps=4, guidance=name) for name in ("classifier-free", "middle"))
    assert middle.record.recipe["guidance"] == "middle"
    assert not np.array_equal(usual.pixels, middle.pixels)
    unguided = lab.image("a red cube", steps=4, guidance="middle", guidance_scale=1)
    assert np.array_equal(unguided.pixels, lab.image("a red cube", steps=4, guidance_scale=1).pixels)


def test_a_new_field_is_distilled_and_meshed():
    recipe = AssetRecipe(prompt="a red cube", field="balls", field_resolution=8, steps=3, samples=16, render_size=16,
                         coarse_render_size=16, mesh_resolution=16)  # fmt: skip
    states = list(distill(load_image_model("world"), recipe))
    field = states[-1].scene.field
    assert type(field).__name__ == "Balls"
    start = type(field)(recipe.radius, resolution=8, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(field.centres, start.centres)
    assert len(export_asset(states[-1].scene, recipe).mesh.faces) > 0


def test_a_new_scorer_scores(tmp_path, capsys):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    write_image(tmp_path / "red.png", red)
    assert main(["score", str(tmp_path / "red.png"), "--prompt", "red", "--scorer", "red"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1.0000"
    assert main(["score", str(tmp_path / "red.png"), "--prompt", "red", "--scorer", "read"]) == 2
    assert "expected clip or red, got read. Did you mean red?" in capsys.readouterr().err


def test_a_broken_one_is_told_and_stops_nothing(capsys):
    assert doctor._plugins() == [
        "kinds poster of kinoform-example 1.0: works",
        "kinds torn of kinoform-example 1.0: BROKEN: ModuleNotFoundError: No module named 'a_package_that_nobody_has'",
        "guidance middle of kinoform-example 1.0: works",
        "fields balls of kinoform-example 1.0: works",
        "scorers red of kinoform-example 1.0: works",
    ]
    assert "torn" not in kinds()
    assert main(["torn", "a red cube"]) == 1
    assert "plug-in torn of kinoform.kinds: expected kinoform_example.torn:TORN to load" in capsys.readouterr().err


def test_help_names_what_is_installed(capsys):
    with pytest.raises(SystemExit):
        parse(["asset", "--help"])
    told = capsys.readouterr().out
    assert "--guidance {classifier-free,middle}" in told
    assert "--field {triplane,grid,balls}" in told
    with pytest.raises(SystemExit):
        parse(["poster", "--help"])
    assert "--frame N" in capsys.readouterr().out


def test_names_that_are_not_there_are_refused():
    with pytest.raises(InputError, match=r"expected classifier-free or middle, got midle\. Did you mean middle"):
        ImageRecipe.parse({"prompt": "a cube", "guidance": "midle"})
    with pytest.raises(InputError, match="fields: expected balls, got cubes"):
        plugins.load("fields", "cubes")
    with pytest.raises(KinoformError, match="plug-in torn"):
        plugins.load("kinds", "torn")

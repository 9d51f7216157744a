"""`kinoform image` on a tiny model."""

import json

import numpy as np
import pytest

from lab.batch.manifest import read_manifest
from lab.main import main
from shared.artifacts.media import read_image, write_image
from shared.artifacts.run_record import read_record
from shared.images.generate import generate_image
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from tests.lab.command import is_refusal
from tests.tiny_given import build_depth_folder, build_upscaler_folder

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


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Models that see depth or a small picture, and pictures of 64x64 and 24x16 pixels."""
    root = tmp_path_factory.mktemp("beside")
    build_depth_folder(root / "deep")
    build_upscaler_folder(root / "upscaler")
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    for name, pixels in (("picture", picture), ("depth", picture[::-1]), ("small", picture[:16, :24])):
        write_image(root / f"{name}.png", np.ascontiguousarray(pixels))
    return root


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("deep", ["--image", "picture.png", "--strength", "0.9"]),
        ("deep", ["--depth", "depth.png"]),
        ("upscaler", ["--image", "small.png", "--noise-level", "30"]),
    ],
)
def test_a_picture_by_depth_and_a_larger_one_are_made_again(place, tmp_path, capsys, monkeypatch, name, flags):
    monkeypatch.chdir(place)
    made, again = tmp_path / "made.png", tmp_path / "again.png"
    assert (
        main(
            ["image", "a red cube", "--model", name, *flags, *SHORT, "--device", "cpu", "--seed", "3", "-o", str(made)]
        )
        == 0
    )
    record = read_record(made)
    *_, last = generate_image(load_image_model(place / name, seeing=True), ImageRecipe.parse(record.recipe))
    np.testing.assert_array_equal(read_image(made), last.images[0])
    assert (record.recipe["pipeline_class"], record.unused) == (None, [])
    assert record.inputs.keys() == {flags[0].removeprefix("--")}
    assert any(file.startswith("depth_estimator") for file in record.model.hashes) == (name == "deep")
    assert main(["rerun", str(made), "-o", str(again), "--device", "cpu"]) == 0
    assert again.read_bytes() == made.read_bytes()
    capsys.readouterr()
    code = main(["rerun", str(made), "-o", str(again), "--device", "cpu", flags[0], str(place / "deep/other.png")])
    assert is_refusal(code, capsys.readouterr().err, flags[0].removeprefix("--"), "a file that exists")


def test_what_comes_before_in_a_chain_is_what_an_upscaler_enlarges(place, tmp_path):
    then = [{"kind": "image", "model": str(place / "upscaler"), "noise_level": 5}]
    job = {"prompt": "a cube", "name": "cube", "model": str(place / "deep"), "depth": str(place / "depth.png")}
    manifest = tmp_path / "m.yaml"
    manifest.write_text(json.dumps({"defaults": {"kind": "image"}, "jobs": [{**job, "then": then}]}), "utf-8")
    first, second = read_manifest(manifest)
    assert (first.recipe["depth"], second.inputs) == (str(place / "depth.png"), {"image": "cube"})
    assert (second.recipe["noise_level"], second.recipe["depth"]) == (5, None)


@pytest.mark.parametrize(
    ("name", "flags", "parts"),
    [
        ("deep", [], ("which sees depth", "--image or --depth", "got neither")),
        ("deep", ["--image", "picture.png", "--depth", "small.png"], ("the picture's size, 64x64", "got 24x16 pixels")),
        (
            "world",
            ["--depth", "depth.png"],
            ("depth with model world", "sees depth", "got one whose UNet sees latents"),
        ),
        ("upscaler", [], ("which makes pictures larger", "expected --image", "got none")),
        ("upscaler", ["--image", "small.png", "--strength", "0.5"], ("strength with model", "--noise-level")),
        ("upscaler", ["--image", "small.png", "--depth", "small.png"], ("depth with model", "sees a small picture")),
        ("upscaler", ["--image", "small.png", "--size", "90x64"], ("width", "a multiple of 4", "88 or 92")),
    ],
)
def test_what_such_a_model_cannot_take_is_said_before_its_weights_are_loaded(
    place, tmp_path, capsys, monkeypatch, name, flags, parts
):
    monkeypatch.chdir(place)
    monkeypatch.setattr("shared.models.image_model.load_image_model", None)
    code = main(["image", "a cube", "--model", name, *flags, *SHORT, "--device", "cpu", "-o", str(tmp_path / "a.png")])
    assert is_refusal(code, capsys.readouterr().err, *parts)


def test_models_that_see_more_than_latents_make_pictures_alone(place, tmp_path, capsys):
    for name, what, kind, file in (
        ("deep", "depth", "asset", "a.glb"),
        ("upscaler", "a small picture", "clip", "a.mp4"),
    ):
        code = main([kind, "a cube", "--model", str(place / name), "-o", str(tmp_path / file)])
        assert is_refusal(code, capsys.readouterr().err, "sees latents alone", f"sees {what}", "kinoform image")


def test_a_plan_knows_the_estimator_and_the_size(place, capsys):
    def planned(name, *flags):
        assert main(["plan", "image", "a cube", "--model", str(place / name), *flags, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["planned"]

    deep = load_image_model(place / "deep", seeing=True)
    networks = [deep.unet, deep.codec.vae, *deep.encoders, deep.beside.network]
    held = sum(tensor.numel() * tensor.element_size() for n in networks for tensor in (*n.parameters(), *n.buffers()))
    assert planned("deep", "--image", str(place / "picture.png"))["weights_bytes"] == held
    pixels = 256 * 256  # four times as many as the picture's on each side, in eight channels at once, twice
    assert planned("upscaler", "--image", str(place / "picture.png"))["activations_bytes"] > 2 * 8 * pixels * 4

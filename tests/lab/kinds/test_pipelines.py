"""Our own core or a pipeline class: by the commands, in batches, records and plans."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, FluxPipeline, SD3Transformer2DModel
from PIL import Image
from safetensors.torch import save_file

from benchmarks.model_classes import save
from lab.batch.content import entries
from lab.batch.manifest import read_manifest
from lab.jobs.events import Done, Failed
from lab.jobs.run import Context, Job, run
from lab.kinds import Output
from lab.kinds.pipelines import load_clips, load_pictures, runs_by_pipeline
from lab.main import main
from shared.artifacts.files import sha256
from shared.artifacts.media import read_image, write_image
from shared.artifacts.run_record import read_record
from shared.errors import ModelError
from shared.images.recipe import ImageRecipe
from shared.models.image_model import ImageModel
from shared.models.pipelines import load
from shared.models.source import WORLD
from shared.models.weight_files import read_header, weight_hashes
from shared.rng import generator
from tests.lab.command import is_refusal
from tests.shared.models.layouts import original_transformers as original
from tests.shared.models.pipelines.tiny.table import TINY
from video.generate import VideoModel

SHORT = {"steps": 2, "width": 32, "height": 32}
FLAGS = ["--steps", "2", "--size", "32x32", "--device", "cpu"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    for name in ("FluxPipeline", "AnimateDiffPipeline"):
        save(TINY[name], root / name)
    return root


@pytest.fixture(scope="module")
def flux(folders):
    return str(folders / "FluxPipeline")


@pytest.fixture(scope="module")
def animated(folders):
    return str(folders / "AnimateDiffPipeline")


def picture(flux, path=None, **changes):
    recipe = ImageRecipe.parse({**SHORT, "prompt": "a red cube", "model": flux, **changes})
    return Job(recipe, Output(None if path is None else str(path)))


def test_who_runs_what(flux, animated, model):
    where = {"device": "cpu", "dtype": torch.float32}
    assert isinstance(load_pictures(str(model), **where), ImageModel)
    assert isinstance(load_clips(str(model), **where), VideoModel)
    assert load_pictures(flux, **where).class_name == "FluxPipeline"
    assert load_clips(animated, **where).class_name == "AnimateDiffPipeline"
    with pytest.raises(ModelError, match="one that makes pictures, got a AnimateDiffPipeline, which makes clips"):
        load_pictures(animated, **where)
    with pytest.raises(ModelError, match="one that makes clips, got a FluxPipeline"):
        load_clips(flux, **where)
    assert [runs_by_pipeline(path) for path in (WORLD, None)] == [False, False]


def test_the_record_has_all_weights_and_the_keys_that_have_no_part(flux, tmp_path):
    path = tmp_path / "cube.png"
    assert main(["image", "a red cube", "--model", flux, *FLAGS, "-o", str(path)]) == 0
    record = read_record(path)
    assert record.unused == ["negative", "guidance", "guidance_rescale", "guidance_start", "guidance_stop"]
    assert record.model.hashes == weight_hashes(Path(flux))
    assert (record.recipe["pipeline_class"], record.recipe["steps"]) == (None, 2)


def test_a_batch_makes_what_each_makes_alone_and_one_failure_is_its_own(flux, tmp_path):
    jobs = [picture(flux, tmp_path / f"{seed}.png", seed=seed) for seed in range(3)]
    events = run(jobs, Context("cpu", batch=3))
    ended = []
    for event in events:
        if isinstance(event, Done) and event.index == 0:
            (tmp_path / "1.png" / "in the way").mkdir(parents=True)
        ended += [event] if isinstance(event, (Done, Failed)) else []
    assert [(type(event), event.index) for event in ended] == [(Done, 0), (Failed, 1), (Done, 2)]
    (alone,) = [event for event in run([picture(flux, seed=2)], Context("cpu")) if isinstance(event, Done)]
    np.testing.assert_array_equal(ended[2].result.pixels, alone.result.pixels)


def test_a_closed_run_leaves_no_file(flux, tmp_path):
    events = run([picture(flux, tmp_path / "a.png", steps=20)], Context("cpu"))
    for event in events:
        if getattr(event, "step", 0) == 2:
            break
    events.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_set_is_the_class_s_own_and_the_record_has_it(flux, tmp_path):
    flags = ["--model", flux, "--size", "32x32", "--device", "cpu"]
    own, said, again = tmp_path / "own.png", tmp_path / "said.png", tmp_path / "again.png"
    assert main(["image", "a cube", *flags, "-o", str(own)]) == 0
    assert main(["image", "a cube", *flags, "--steps", "28", "--guidance-scale", "3.5", "-o", str(said)]) == 0
    assert own.read_bytes() == said.read_bytes()
    recipe = read_record(own).recipe
    assert (recipe["steps"], recipe["guidance_scale"], recipe["guidance_rescale"]) == (28, 3.5, 0.5)
    assert main(["rerun", str(own), "-o", str(again), "--device", "cpu"]) == 0
    assert again.read_bytes() == own.read_bytes()
    pixels = FluxPipeline.from_pretrained(flux)(
        "a cube", width=32, height=32, output_type="np", generator=generator(0)
    ).images[0]
    assert np.abs(read_image(own) - (pixels * 255).round()).max() <= 1


def test_values_that_are_set_to_the_recipe_s_defaults_stay(flux, tmp_path):
    file = tmp_path / "a.png"
    flags = ["--model", flux, "--steps", "2", "--guidance-scale", "5", "--size", "32x32", "--device", "cpu"]
    assert main(["image", "a cube", *flags, "-o", str(file)]) == 0
    assert read_record(file).recipe["guidance_scale"] == 5.0


def test_many_of_the_class_s_own_are_there_already_when_asked_again(flux, tmp_path, capsys):
    asked = ["image", "a cube", "--model", flux, "--steps", "1", "--size", "32x32", "--count", "2", "--device", "cpu",
             "-o", f"{tmp_path}/many/"]  # fmt: skip
    assert main(asked) == 0
    capsys.readouterr()
    assert main(asked) == 0
    assert "2 of 2 are there already" in capsys.readouterr().err


def test_a_batch_knows_what_was_set(flux, tmp_path):
    """Ledgers leave out what is at a recipe's default, which is not the class's."""
    manifest = tmp_path / "m.yaml"
    jobs = [{"prompt": "a", "name": "own"}, {"prompt": "a", "name": "set", "guidance_scale": 5}]
    manifest.write_text(json.dumps({"defaults": {"kind": "image", "model": flux, **SHORT}, "jobs": jobs}), "utf-8")
    recipes = {entry.id: ImageRecipe.parse(entry.recipe) for entry in entries(read_manifest(manifest))}
    assert {name: recipe.guidance_scale for name, recipe in recipes.items()} == {"own": 3.5, "set": 5.0}
    assert all("guidance_scale" in recipe.model_fields_set for recipe in recipes.values())


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--guidance-start", "0.5"], ("guidance-start with a FluxPipeline", "got 0.5")),
        (["--size", "33x32"], ("width", "32 or 36", "got 33")),
        (["--pipeline-class", "NoPipeline"], ("a pipeline class of the installed diffusers", "NoPipeline")),
        (["--offload", "model"], ("offload", "none without a GPU")),
    ],
)
def test_what_is_wrong_is_one_line(flux, tmp_path, capsys, flags, parts):
    code = main(["image", "a cube", "--model", flux, "-o", str(tmp_path / "a.png"), "--json", *FLAGS, *flags])
    assert is_refusal(code, capsys.readouterr().err, *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--size", "33x32"], ("width", "32 or 36", "got 33")),
        (["--guidance-start", "0.5"], ("guidance-start with a FluxPipeline", "got 0.5")),
        (["--scheduler", "ddim"], ("expected flow-match-euler-discrete, flow-match-heun-discrete", "got one for diff")),
    ],
)
def test_what_is_wrong_is_said_before_the_weights_are_loaded(flux, tmp_path, capsys, monkeypatch, flags, parts):
    def load(*_, **__):
        raise AssertionError("weights are loaded")

    monkeypatch.setattr("lab.kinds.pipelines._load", load)
    asked = ["image", "a cube", "--model", flux, "-o", str(tmp_path / "a.png"), "--json", *FLAGS]
    assert is_refusal(main([*asked, *flags]), capsys.readouterr().err, *parts)
    assert main(asked) == 1


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A picture of 40x32 pixels and a mask of its size, white on the right."""
    place = tmp_path_factory.mktemp("pictures")
    picture = np.random.default_rng(0).integers(0, 256, (32, 40, 3)).astype(np.uint8)
    mask = np.zeros_like(picture)
    mask[:, 20:] = 255
    write_image(place / "picture.png", picture)
    write_image(place / "mask.png", mask)
    write_image(place / "black.png", np.zeros_like(picture))
    write_image(place / "white.png", np.full_like(picture, 255))
    write_image(place / "small.png", mask[:16])
    return place


def test_a_picture_is_changed_by_the_class_that_diffusers_has_for_it(flux, pictures, tmp_path, monkeypatch):
    """The same weights serve all three; what comes out is what diffusers' AutoPipeline makes."""
    loads = []
    network = load._network
    monkeypatch.setattr(load, "_network", lambda folder, *rest: loads.append(folder.name) or network(folder, *rest))
    given = {"steps": 4, "strength": 0.75, "image": str(pictures / "picture.png"), "width": 40}
    asked = [given, {**given, "mask": str(pictures / "mask.png")}, {}]
    jobs = [picture(flux, tmp_path / f"{name}.png", **values) for name, values in zip("abc", asked, strict=True)]
    assert not [event for event in run(jobs, Context("cpu")) if isinstance(event, Failed)]
    assert sorted(loads) == sorted(set(loads))
    classes = [read_record(tmp_path / f"{name}.png").recipe["pipeline_class"] for name in "abc"]
    assert classes == ["FluxImg2ImgPipeline", "FluxInpaintPipeline", None]
    values = {"prompt": "a red cube", "image": Image.open(pictures / "picture.png"), "strength": 0.75, "width": 40,
              "height": 32, "num_inference_steps": 4, "output_type": "np"}  # fmt: skip
    own = [
        AutoPipelineForImage2Image.from_pretrained(flux)(**values, generator=generator(0)),
        AutoPipelineForInpainting.from_pretrained(flux)(
            **values, mask_image=Image.open(pictures / "mask.png"), generator=generator(0)
        ),
    ]
    for name, expected in zip("ab", own, strict=True):
        made = read_image(tmp_path / f"{name}.png")
        assert np.abs(made - (expected.images[0] * 255).round()).max() <= 1
    assert main(["rerun", str(tmp_path / "b.png"), "-o", str(tmp_path / "d.png"), "--device", "cpu"]) == 0
    assert (tmp_path / "d.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("by_core", [False, True])
@pytest.mark.parametrize(
    ("mask", "parts"),
    [
        ("black", ("white where to paint", "all of it black")),
        ("white", ("white where to paint", "all of it white")),
        ("small", ("the picture's size, 40x32 pixels", "40x16 pixels")),
    ],
)
def test_a_mask_that_says_nothing_is_refused_before_the_weights(
    flux, model, pictures, tmp_path, capsys, monkeypatch, by_core, mask, parts
):
    monkeypatch.setattr("lab.kinds.pipelines._load", None)
    monkeypatch.setattr("shared.models.image_model.load_image_model", None)
    given = ["--image", str(pictures / "picture.png"), "--mask", str(pictures / f"{mask}.png")]
    asked = ["image", "a", "--model", str(model) if by_core else flux, *given, "-o", str(tmp_path / "a.png")]
    assert is_refusal(main([*asked, "--size", "40x32"]), capsys.readouterr().err, *parts)


def test_assets_are_distilled_from_classes_whose_gradient_can_be_had(flux, folders, tmp_path, capsys):
    small = ["--steps", "2", "--field-resolution", "12", "--samples", "12", "--mesh-resolution", "16",
             "--device", "cpu", "--coarse-render-size", "12", "--render-size", "16"]  # fmt: skip
    file = tmp_path / "a.obj"
    assert main(["asset", "a cube", "--model", flux, "-o", str(file), *small]) == 0
    said = capsys.readouterr().err
    assert "of its own" not in said  # steps and guidance are those of the distillation
    record = read_record(file)
    assert record.unused == []
    assert record.model.hashes == weight_hashes(Path(flux))
    assert main(["rerun", str(file), "-o", str(tmp_path / "a" / "a.obj"), "--device", "cpu"]) == 0
    assert (tmp_path / "a" / "a.obj").read_bytes() == file.read_bytes()
    capsys.readouterr()
    code = main(["asset", "a cube", "--model", str(folders / "AnimateDiffPipeline"), "-o", str(tmp_path / "b.glb")])
    assert is_refusal(code, capsys.readouterr().err, "core runs", "AnimateDiffPipeline", "gradient cannot be reached")


def test_a_plan_knows_what_the_weights_take(flux, tmp_path, capsys):
    assert main(["plan", "image", "a cube", "--model", flux, "--precision", "bf16", "--json", "--device", "cpu"]) == 0
    planned = json.loads(capsys.readouterr().out)["planned"]
    count = sum(
        int(np.prod(shape)) for file in Path(flux).rglob("*.safetensors") for shape in read_header(file).values()
    )
    assert (planned["weights_bytes"], planned["seconds"]) == (2 * count, None)
    assert main(["plan", "image", "a cube", "--model", flux, "--device", "cpu"]) == 0
    assert "more is not known of a diffusers pipeline" in capsys.readouterr().out
    assert main(["plan", "image", "a cube", "--model", flux, "--memory", "1M", "--device", "cpu"]) == 2


@pytest.mark.parametrize(
    ("command", "flags", "parts"),
    [
        ("image", ["--vae", "F"], ("vae ", "levels: expected 2, as model", "got 3")),
        ("image", ["--model", "core", "--transformer", "F"], ("a model that has one", "which has a UNet")),
        ("clip", ["--model", "core", "--transformer", "F"], ("a model that has one", "which has a UNet")),
        ("asset", ["--unet", "F"], ("unet ", "a model that has one", "transformer", "got none in it")),
        ("clip", ["--model", "animated", "--transformer", "F"], ("a model that has one", "got none in it")),
        ("clip", ["--model", "animated", "--motion-adapter", "F"], ("motion-adapter with a AnimateDiffPipeline",)),
    ],
)
def test_parts_are_for_models_that_have_them(
    flux, animated, model, tmp_path, capsys, monkeypatch, command, flags, parts
):
    monkeypatch.setattr("shared.models.pipelines.load._network", None)  # of none the weights are read
    file = str(next((model / "vae").glob("*.safetensors")))
    names = {"F": file, "core": str(model), "animated": animated}
    asked = [command, "a cube", "--model", flux, *(names.get(flag, flag) for flag in flags), "--device", "cpu"]
    output = tmp_path / {"image": "a.png", "clip": "a.mp4", "asset": "a.glb"}[command]
    assert is_refusal(main([*asked, "-o", str(output)]), capsys.readouterr().err, *parts)


def test_a_single_file_of_a_transformer_by_the_commands(folders, tmp_path, capsys):
    """Recorded by its hash, in a plan by its size, and made again from elsewhere to the same bytes."""
    save(TINY["StableDiffusion3Pipeline"], tmp_path / "sd3")
    bare = tmp_path / "sd3"
    network = SD3Transformer2DModel.from_pretrained(bare / "transformer")
    with torch.no_grad():
        network.proj_out.bias += 1
    file = tmp_path / "sd3.safetensors"
    names = original.stable_diffusion_3(network.state_dict())
    save_file({name: tensor.contiguous() for name, tensor in names.items()}, file)
    made, plain = tmp_path / "a.png", tmp_path / "plain.png"
    asked = ["image", "a red cube", "--model", str(bare), *FLAGS]
    assert main([*asked, "-o", str(plain)]) == 0
    (bare / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    assert main([*asked, "--transformer", str(file), "-o", str(made)]) == 0
    assert not (read_image(made) == read_image(plain)).all()
    record = read_record(made)
    assert record.inputs == {"transformer": sha256(file)}
    assert record.model.hashes == weight_hashes(bare)

    plan = ["plan", "image", "a", "--model", str(bare), "--transformer", str(file), "--json", "--device", "cpu"]
    capsys.readouterr()
    assert main(plan) == 0
    shapes = [shape for each in (*bare.rglob("*.safetensors"), file) for shape in read_header(each).values()]
    count = sum(int(np.prod(shape)) for shape in shapes)
    assert json.loads(capsys.readouterr().out)["planned"]["weights_bytes"] == 4 * count

    moved = file.rename(tmp_path / "moved.safetensors")
    assert is_refusal(main(["rerun", str(made)]), capsys.readouterr().err, "transformer", "a file that exists")
    assert main(["rerun", str(made), "--transformer", str(moved), "-o", str(tmp_path / "again.png")]) == 0
    assert (tmp_path / "again.png").read_bytes() == made.read_bytes()
    capsys.readouterr()
    code = main(["image", "a", "--model", str(moved), "-o", str(tmp_path / "b.png")])
    assert is_refusal(code, capsys.readouterr().err, "got Stable Diffusion 3", "--model FOLDER --transformer FILE")


@pytest.mark.parametrize("flag", ["--image", "--mask"])
def test_a_class_without_a_sibling_for_pictures_says_what_to_do(tmp_path, pictures, capsys, monkeypatch, flag):
    """Before anything is loaded."""
    monkeypatch.setattr("shared.models.pipelines.load.load_pipeline", None)
    save(TINY["PixArtSigmaPipeline"], tmp_path / "model")
    given = ["--image", str(pictures / "picture.png"), *(["--mask", str(pictures / "mask.png")] * (flag == "--mask"))]
    capsys.readouterr()
    code = main(["image", "a", "--model", str(tmp_path / "model"), *given, "-o", str(tmp_path / "a.png"), *FLAGS])
    parts = ("image with a PixArtSigmaPipeline", "no class for it beside this one", "--pipeline-class NAME")
    assert is_refusal(code, capsys.readouterr().err, *parts)

"""Quantised networks against float networks whose weights the packages' own functions have worked out."""

import json
import shutil

import bitsandbytes
import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel, TorchAoConfig
from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

from benchmarks.model_classes import save
from dreamfusion.distill import distill
from dreamfusion.recipe import AssetRecipe
from lab.jobs.models import Models
from lab.kinds import IMAGE
from lab.kinds.pipelines import load_clips, load_pictures
from lab.main import main
from shared.artifacts.run_record import read_record
from shared.compute.quantised import QUANTISED, quantised_layers
from shared.images.generate import generate_image
from shared.images.plan import plan_image
from shared.images.recipe import ImageRecipe
from shared.models.pipelines.load import PipelineModel
from shared.models.pipelines.run import run_pipeline
from shared.plan.pipelines import plan_pipeline
from tests.shared.models.adapters import files
from tests.shared.models.pipelines.tiny.table import TINY
from tests.tolerances import TOLERANCES
from tests.video.tiny import build_video_folder
from video.generate import VideoModel, generate_clip
from video.recipe import ClipRecipe

KINDS = ["int8", "float8", "nf4"]
NEAR = TOLERANCES[torch.float32][0]
SHORT = {"prompt": "a red cube", "steps": 2, "width": 32, "height": 32}
PIPELINES = {"flux": "FluxPipeline", "sd3": "StableDiffusion3Pipeline", "wan": "WanPipeline", "ltx": "LTXPipeline"}
CLIPS = ("clip", "wan", "ltx")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    known = {"core": build_video_folder(root / "core", known=0.3, cameras=True)}
    known["clip"] = known["core"]
    for name, class_name in PIPELINES.items():
        save(TINY[class_name], root / name)
        known[name] = root / name
    return known


def loaded(folders, name, **options):
    load = load_clips if name in CLIPS else load_pictures
    return load(str(folders[name]), **{"device": "cpu", "dtype": torch.float32, **options})


def networks(model):
    """Those that are quantised."""
    if isinstance(model, PipelineModel):
        return [network for name, network in model.networks.items() if name in QUANTISED]
    image = model.image if isinstance(model, VideoModel) else model
    return [model.network if isinstance(model, VideoModel) else image.unet, *image.encoders]


def numbers(weight):
    if isinstance(weight, bitsandbytes.nn.Params4bit):
        return bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
    return weight.dequantize()


def worked_out(plain, quantised):
    """The float model, with the numbers that the weights of the other stand for; and of how many layers."""
    count = 0
    for network, other in zip(networks(plain), networks(quantised), strict=True):
        for name, layer in quantised_layers(network).items():
            weight = other.get_submodule(name).weight
            assert type(weight) is not torch.nn.Parameter, name
            layer.weight.data = numbers(weight)
            count += 1
    return plain, count


def made(name, model):
    recipe = ClipRecipe if name in CLIPS else ImageRecipe
    short = recipe.parse({**SHORT, "steps": 2, **({"frames": 5} if name in ("wan", "clip") else {})})
    if isinstance(model, PipelineModel):
        *_, last = run_pipeline(model, short)
        return last.values
    if isinstance(model, VideoModel):
        *_, last = generate_clip(model, short)
        return last.latents.numpy()
    *_, last = generate_image(model, short)
    return last.pixels.numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["core", "clip", *PIPELINES])
def test_what_comes_out_is_what_the_rounded_weights_give(folders, name, kind):
    quantised = loaded(folders, name, quantization=kind)
    plain, count = worked_out(loaded(folders, name), quantised)
    wanted, got = made(name, plain), made(name, quantised)
    assert count > 10
    assert np.abs(got - wanted).max() <= NEAR
    assert np.abs(got - made(name, loaded(folders, name))).max() > 10 * NEAR  # so weights are rounded


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["core", "flux"])
def test_in_half_precision(folders, name, kind):
    half = {"dtype": torch.bfloat16, "quantization": kind}
    got = made(name, loaded(folders, name, **half))
    assert np.abs(got - made(name, loaded(folders, name, quantization=kind))).max() < 0.15


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["core", "flux"])
def test_a_lora_is_part_of_what_is_rounded_or_beside_it(folders, name, kind, tmp_path):
    model = loaded(folders, name)
    if name == "core":
        lora = files.kohya(tmp_path, *files.random_layers(targets=files.ATTENTION))
    else:
        layers = files.peft_layers(model.pipeline.transformer, ["to_q", "to_k", "to_v"], 0)
        lora = files.save(tmp_path / "a.safetensors", {f"transformer.{key}": value for key, value in layers.items()})
    without = loaded(folders, name, quantization=kind)
    quantised = loaded(folders, name, quantization=kind, lora=[lora])
    if name == "core":
        wanted = made(name, worked_out(loaded(folders, name, lora=[lora]), quantised)[0])
    else:
        from shared.models.pipelines.adapters import with_adapters

        wanted = made(name, with_adapters(worked_out(loaded(folders, name), without)[0], [lora]))
    got = made(name, quantised)
    assert np.abs(got - wanted).max() <= NEAR
    assert np.abs(got - made(name, without)).max() > 10 * NEAR


@pytest.mark.parametrize("kind", KINDS)
def test_assets_learn_from_the_rounded_weights(folders, kind):
    recipe = AssetRecipe.parse({"prompt": "a red cube", "steps": 2, "teacher": "image", "views": 1, "samples": 12,
                                "coarse_render_size": 12, "render_size": 16, "field_resolution": 12})  # fmt: skip

    def gradients(model):
        return np.array([state.gradient_rms for state in distill(model, recipe)])

    quantised = loaded(folders, "core", quantization=kind)
    wanted = gradients(worked_out(loaded(folders, "core"), quantised)[0])
    np.testing.assert_allclose(gradients(quantised), wanted, rtol=1e-4)
    assert not np.allclose(wanted, gradients(loaded(folders, "core")), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_go_through_to_what_a_network_is_given(folders, kind):
    """As guidance by a scorer wants them."""
    quantised = loaded(folders, "core", quantization=kind)
    found = []
    for model in (quantised, worked_out(loaded(folders, "core"), quantised)[0]):
        torch.manual_seed(0)
        x = torch.randn(1, model.unet.config.in_channels, 16, 16, requires_grad=True)
        states = torch.randn(1, 7, model.unet.config.cross_attention_dim)
        found += torch.autograd.grad(model.unet(x, 500, states).sample.square().sum(), x)
    np.testing.assert_allclose(found[0].numpy(), found[1].numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["core", "flux"])
def test_a_rerun_is_the_same_to_the_byte(folders, name, kind, tmp_path):
    out = tmp_path / "a.png"
    flags = ["--model", str(folders[name]), "--steps", "2", "--size", "32x32"]
    assert main(["image", "a red cube", *flags, "--quantization", kind, "-o", str(out)]) == 0
    record = read_record(out)
    assert record.recipe["quantization"] == kind
    assert {"int8": "torchao", "float8": "torchao", "nf4": "bitsandbytes"}[kind] in record.versions
    assert main(["rerun", str(out), "-o", str(tmp_path / "b.png")]) == 0
    assert out.read_bytes() == (tmp_path / "b.png").read_bytes()


def held(network):
    """Bytes of a network's weights."""
    return sum(
        weight.nbytes + weight.quant_state.absmax.nbytes if isinstance(weight, bitsandbytes.nn.Params4bit)
        else weight.nbytes if type(weight) is torch.nn.Parameter
        else weight.qdata.nbytes + weight.scale.nbytes
        for weight in network.parameters()
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "plan"), [("core", plan_image), ("flux", plan_pipeline)])
def test_a_plan_knows_what_the_weights_take(folders, name, plan, precision, kind):
    recipe = ImageRecipe.parse({**SHORT, "model": str(folders[name]), "precision": precision})
    asked = recipe.model_copy(update={"quantization": kind})
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    saved = [sum(map(held, networks(loaded(folders, name, dtype=dtype, quantization=each)))) for each in ("none", kind)]
    was, now = plan(recipe, "cpu"), plan(asked, "cpu")
    assert now.weights - was.weights == pytest.approx(saved[1] - saved[0], abs=2)
    assert now.kinds.get("weights") != was.kinds.get("weights")


def test_a_model_is_loaded_anew_for_other_weights(folders):
    models, recipe = Models(), ImageRecipe.parse({**SHORT, "model": str(folders["core"])})
    first = models.get(IMAGE, recipe, "cpu")
    other = models.get(IMAGE, recipe.model_copy(update={"quantization": "int8"}), "cpu")
    assert other is not first
    assert models.get(IMAGE, recipe, "cpu") is not other


@pytest.mark.parametrize(
    ("kind", "config"), [("int8", Int8WeightOnlyConfig), ("float8", Float8WeightOnlyConfig)], ids=["int8", "float8"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_transformer_that_was_saved_quantised(folders, kind, config, dtype, tmp_path):
    """What diffusers quantised is what is quantised here, and stays so beside encoders that are quantised now."""
    folder = shutil.copytree(folders["flux"], tmp_path / "model")
    wanted = loaded(folders, "flux", dtype=dtype, quantization=kind)
    saved = FluxTransformer2DModel.from_pretrained(
        folder / "transformer", quantization_config=TorchAoConfig(config()), torch_dtype=dtype
    )
    shutil.rmtree(folder / "transformer")
    saved.save_pretrained(folder / "transformer")
    assert json.loads((folder / "transformer" / "config.json").read_text())["quantization_config"]
    got = loaded({"flux": folder}, "flux", dtype=dtype, quantization=kind)
    np.testing.assert_array_equal(made("flux", got), made("flux", wanted))
    plan = plan_pipeline(ImageRecipe.parse({**SHORT, "model": str(folder)}), "cpu")
    assert plan.weights < plan_pipeline(ImageRecipe.parse({**SHORT, "model": str(folders["flux"])}), "cpu").weights

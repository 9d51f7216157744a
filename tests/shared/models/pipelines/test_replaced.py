"""Other networks in a pipeline's place: as if the folder had them; what does not fit is one line."""

import json
import shutil
from itertools import product

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lab.kinds.pipelines import load_clips, load_pictures
from shared.errors import ModelError
from shared.images.recipe import ImageRecipe
from shared.models.configs import changed
from shared.models.pipelines.run import run_pipeline
from shared.models.source import check_model
from shared.plan.pipelines import plan_pipeline
from tests.shared.models.layouts import original_transformers as original
from tests.shared.models.layouts.narrow import assert_same_weights
from tests.shared.models.layouts.test_original_networks import sd_35
from tests.shared.models.pipelines.tiny.clips import ltx_parts, wan_2_2, wan_parts
from tests.shared.models.pipelines.tiny.images import stable_diffusion_3
from video.recipe import ClipRecipe

ROUNDING = 1e-6  # of values in [0, 1]: tensors of the same numbers begin at other addresses, where sums may round anew
WEIGHTS = "diffusion_pytorch_model.safetensors"
PAIR = ("transformer", "transformer_2")
SHORT = {"prompt": "a red cube", "steps": 2, "guidance_scale": 3.0, "width": 32, "height": 32}


def other(network, seed=7):
    """One like it with other weights."""
    torch.manual_seed(seed)
    new = type(network).from_config(network.config)
    with torch.no_grad():
        for weight in new.parameters():  # some begin at zero
            weight.copy_(torch.randn(weight.shape) * 0.2)
    return new.eval()


def written(tensors, path):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return str(path)


def whole_ltx(parts):
    """LTX-Video's own file has the autoencoder in it, and both keys name it."""
    return original.ltx(parts["transformer"].state_dict()) | original.ltx_vae(parts["vae"].state_dict())


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    pipeline = stable_diffusion_3()
    pipeline.register_modules(transformer=sd_35().eval())
    pipeline.save_pretrained(folder := tmp_path_factory.mktemp("sd3") / "model")
    return folder


def in_place(folder, tmp_path, **networks):
    whole = shutil.copytree(folder, tmp_path / "whole")
    for name, network in networks.items():
        network.save_pretrained(whole / name)
    return str(whole)


def made(load, recipe, folder, dtype=torch.float32, **files):
    model = load(str(folder), device="cpu", dtype=dtype, **{name: [file] for name, file in files.items()})
    *_, last = run_pipeline(model, recipe)
    return model, last.values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_transformer_in_the_original_layout_is_as_if_it_were_in_place(sd3, tmp_path, dtype):
    network = other(sd_35())
    file = written(original.stable_diffusion_3(network.state_dict()), tmp_path / "sd35.safetensors")
    recipe = ImageRecipe.parse({**SHORT, "model": str(sd3)})
    model, got = made(load_pictures, recipe, sd3, dtype, transformer=file)
    theirs, wanted = made(load_pictures, recipe, in_place(sd3, tmp_path, transformer=network), dtype)
    assert_same_weights(theirs.pipeline.transformer, model.pipeline.transformer)
    assert np.abs(got - wanted).max() <= ROUNDING
    assert not (got == made(load_pictures, recipe, sd3, dtype)[1]).all()
    assert not model.pipeline.transformer.training
    assert not any(weight.requires_grad for weight in model.pipeline.transformer.parameters())


CLIPS = {
    "WanPipeline": (wan_parts, 5, lambda parts: original.wan(parts["transformer"].state_dict()), ["transformer"]),
    "LTXPipeline": (ltx_parts, 9, whole_ltx, ["transformer", "vae"]),
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_so_are_those_of_clips_in_half_precision_too(folder_of, tmp_path, name, dtype):
    build, frames, names, components = CLIPS[name]
    networks = {part: other(network) for part, network in build().items() if part in ("transformer", "vae")}
    file = written(names(networks), tmp_path / "a.safetensors")
    folder = folder_of(name)
    recipe = ClipRecipe.parse({**SHORT, "frames": frames, "model": str(folder)})
    model, got = made(load_clips, recipe, folder, dtype, **dict.fromkeys(components, file))
    whole = in_place(folder, tmp_path, **{part: networks[part] for part in components})
    theirs, wanted = made(load_clips, recipe, whole, dtype)
    for part in components:
        ours, other_ones = (each.pipeline.components[part].state_dict() for each in (model, theirs))
        assert {key: each.dtype for key, each in ours.items()} == {key: each.dtype for key, each in other_ones.items()}
        assert_same_weights(theirs.pipeline.components[part], model.pipeline.components[part])
    assert np.abs(got - wanted).max() <= ROUNDING


def test_the_folder_needs_no_weights_of_what_is_replaced(sd3, tmp_path):
    network = other(sd_35())
    file = written(original.stable_diffusion_3(network.state_dict()), tmp_path / "a.safetensors")
    bare = shutil.copytree(sd3, tmp_path / "bare")
    (bare / "transformer" / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"transformer: expected a \.safetensors file"):
        check_model(bare, pipelines=None)
    check_model(bare, pipelines=None, replaced=["transformer"])
    model = load_pictures(str(bare), device="cpu", dtype=torch.float32, transformer=[file])
    assert_same_weights(network, model.pipeline.transformer)


def test_a_folder_and_a_file_by_diffusers_names(sd3, tmp_path):
    network = other(sd_35())
    network.save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / WEIGHTS, tmp_path / "loose.safetensors")
    for file in (tmp_path / "other" / WEIGHTS, tmp_path / "loose.safetensors"):
        model = load_pictures(str(sd3), device="cpu", dtype=torch.float32, transformer=[str(file)])
        assert_same_weights(network, model.pipeline.transformer)
    fewer = type(network).from_config(changed(network.config, num_layers=2, dual_attention_layers=(0,)))
    fewer.save_pretrained(tmp_path / "fewer")
    model = load_pictures(str(sd3), device="cpu", dtype=torch.float32, transformer=[str(tmp_path / "fewer" / WEIGHTS)])
    assert_same_weights(fewer, model.pipeline.transformer)


def test_what_does_not_go_with_the_model_is_one_line_that_names_both(sd3, tmp_path, monkeypatch):
    monkeypatch.setattr("shared.models.pipelines.load.load_pipeline", None)  # nothing else is loaded before it is said
    network = sd_35()
    wide = type(network).from_config(changed(network.config, joint_attention_dim=32))
    wide.save_pretrained(tmp_path / "wide")
    shutil.copy(tmp_path / "wide" / WEIGHTS, tmp_path / "wide.safetensors")
    wan_parts()["transformer"].save_pretrained(tmp_path / "wan")
    shutil.copy(tmp_path / "wan" / WEIGHTS, tmp_path / "wan.safetensors")
    of_wan = written(original.wan(wan_parts()["transformer"].state_dict()), tmp_path / "original.safetensors")
    broken = other(network).state_dict()
    broken["proj_out.bias"][0] = torch.nan
    for component, file, *said in (
        ("transformer", tmp_path / "wide" / WEIGHTS, "joint_attention_dim: expected 64", "got 32", str(sd3)),
        ("transformer", tmp_path / "wide.safetensors", "context_embedder.weight: expected shape", str(sd3)),
        ("transformer", of_wan, "expected those of a SD3Transformer2DModel, got Wan", str(sd3)),
        ("transformer", tmp_path / "wan.safetensors", "proj_out.bias: expected shape (16,), got (64,)", str(sd3)),
        ("transformer", tmp_path / "wan" / WEIGHTS, "in_channels: expected 4", "got 16", str(sd3)),
        ("transformer", written(broken, tmp_path / "nan.safetensors"), "expected finite numbers"),
        ("unet", of_wan, "a model that has one", str(sd3), "got none in it"),
    ):
        with pytest.raises(ModelError) as caught:
            load_pictures(str(sd3), device="cpu", dtype=torch.float32, **{component: [str(file)]})
        line = str(caught.value)
        assert "\n" not in line
        for part in (*said, str(file)):
            assert part in line, line


def test_a_configuration_that_no_network_has(sd3, tmp_path):
    other(sd_35()).save_pretrained(tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    values = json.loads(config.read_text())
    for change, said in (({"_class_name": "os"}, "a network of diffusers, got os"), ({"num_layers": "two"}, "a SD3")):
        config.write_text(json.dumps({**values, **change}))
        with pytest.raises(ModelError, match=said):
            load_pictures(str(sd3), device="cpu", dtype=torch.float32, transformer=[str(tmp_path / "other" / WEIGHTS)])


def test_models_of_the_core_have_no_transformer(tmp_path):
    file = written({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    said = "expected a model that has one, got model world, which has a UNet"
    for load, part in product((load_pictures, load_clips), ("transformer", "transformer_2")):
        with pytest.raises(ModelError, match=f"{part} {file}: {said}"):
            load("world", device="cpu", dtype=torch.float32, **{part: [file]})


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    wan_2_2().save_pretrained(folder := tmp_path_factory.mktemp("wan") / "model")
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_in_the_original_layout_are_as_if_they_were_in_place(wan, tmp_path, dtype):
    networks = {name: other(getattr(wan_2_2(), name), seed) for seed, name in enumerate(PAIR)}
    files = {
        name: written(original.wan(network.state_dict()), tmp_path / f"{name}.safetensors")
        for name, network in networks.items()
    }
    recipe = ClipRecipe.parse({**SHORT, "frames": 5, "model": str(wan)})
    model, got = made(load_clips, recipe, wan, dtype, **files)
    theirs, wanted = made(load_clips, recipe, in_place(wan, tmp_path, **networks), dtype)
    for name in PAIR:
        assert_same_weights(theirs.pipeline.components[name], model.pipeline.components[name])
    assert model.pipeline.config.boundary_ratio == 0.9
    assert np.abs(got - wanted).max() <= ROUNDING
    swapped = made(
        load_clips, recipe, wan, dtype, transformer=files["transformer_2"], transformer_2=files["transformer"]
    )
    assert np.abs(got - swapped[1]).max() > 0.01


def test_a_model_with_one_transformer_names_what_it_has(folder_of, tmp_path):
    file = written(original.wan(wan_2_2().transformer.state_dict()), tmp_path / "low.safetensors")
    with pytest.raises(ModelError) as caught:
        load_clips(str(folder_of("WanPipeline")), device="cpu", dtype=torch.float32, transformer_2=[file])
    line = str(caught.value)
    assert "\n" not in line
    for part in (
        f"transformer_2 {file}: expected a model that has one",
        "text_encoder",
        "transformer",
        "vae",
        "none in it",
    ):
        assert part in line, line


def test_a_part_in_shards_is_what_one_file_gives(sd3, tmp_path):
    network = other(sd_35())
    network.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) == 4
    asked = ImageRecipe.parse({**SHORT, "model": str(sd3), "transformer": str(tmp_path / "shards")})
    where = {"device": "cpu", "dtype": torch.float32}
    model = load_pictures(str(sd3), **where, transformer=[asked.transformer])
    assert_same_weights(network, model.pipeline.transformer)
    own = asked.model_copy(update={"transformer": None})
    assert plan_pipeline(asked, "cpu").weights == plan_pipeline(own, "cpu").weights

    last = max((tmp_path / "shards").glob("*.safetensors"))
    tensors = load_file(last)
    name = min(tensors)
    del tensors[name]
    save_file(tensors, last)
    with pytest.raises(ModelError, match=rf"index\.json: expected \d+ tensors, got 1 missing, first {name}$"):
        load_pictures(str(sd3), **where, transformer=[asked.transformer])

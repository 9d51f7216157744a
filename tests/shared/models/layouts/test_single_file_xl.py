"""A single file of Stable Diffusion XL: the folder that it was made of, as diffusers reads it, offline."""

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_open_clip_checkpoint
from safetensors.torch import load_file, save_file

from lab.main import main
from shared.errors import ModelError
from shared.models.image_model import load_image_model
from shared.models.layouts.convert import convert
from shared.models.source import check_model
from tests.lab.command import is_refusal
from tests.shared.models.layouts.narrow import assert_same_weights
from tests.shared.models.layouts.narrow_xl import build_pipeline, build_xl_file

EPSILON = {"modelspec.prediction_type": "epsilon"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("xl") / "folder"
    build_pipeline().save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return build_xl_file(tmp_path_factory.mktemp("xl") / "a.safetensors", build_pipeline(), EPSILON)


def parts_of(model):
    first, second = model.encoders
    return {"unet": model.unet, "vae": model.codec.vae, "text_encoder": first, "text_encoder_2": second}


def test_a_single_file_is_the_folder(folder, file):
    check_model(file)
    one, other = load_image_model(folder), load_image_model(file)
    for name, network in parts_of(one).items():
        assert_same_weights(network, parts_of(other)[name])
        for key in ("attention_head_dim", "transformer_layers_per_block", "addition_time_embed_dim", "hidden_act",
                    "projection_dim", "scaling_factor", "sample_size"):  # fmt: skip
            was, now = (getattr(part.config, key, None) for part in (network, parts_of(other)[name]))
            assert (tuple(now) if isinstance(now, list) else now) == (tuple(was) if isinstance(was, list) else was), key
    assert other.scheduler_class is one.scheduler_class
    keys = {key for key in one.scheduler_config if not key.startswith("_")}
    assert {key: other.scheduler_config[key] for key in keys} == {key: one.scheduler_config[key] for key in keys}
    assert other.own_size == (1024, 1024)
    wanted, got = (model.conditions(["a red cube", ""]) for model in (one, other))
    assert torch.equal(wanted.text, got.text)
    assert torch.equal(wanted.pooled, got.pooled)


def test_stock_diffusers_reads_the_same(folder, file):
    """from_single_file with the folder's configurations, and diffusers' converters of the text encoders' names."""
    theirs = StableDiffusionXLPipeline.from_single_file(str(file), config=str(folder), local_files_only=True)
    ours, stored = parts_of(load_image_model(file)), load_file(file)
    second = "conditioner.embedders.1.model."
    expected = {
        "unet": theirs.unet.state_dict(),
        "vae": theirs.vae.state_dict(),
        "text_encoder": convert_ldm_clip_checkpoint(dict(stored)),
        "text_encoder_2": convert_open_clip_checkpoint(ours["text_encoder_2"], dict(stored), prefix=second),
    }
    for name, network in ours.items():
        wanted = {key.removeprefix("text_model."): tensor for key, tensor in expected[name].items()}
        got = {key.removeprefix("text_model."): tensor for key, tensor in network.state_dict().items()}
        assert got.keys() <= wanted.keys(), name
        assert all(torch.equal(got[key], wanted[key].float()) for key in got), name


def test_a_converted_file_is_loaded_by_stock_diffusers(file, tmp_path):
    assert convert(file, tmp_path / "out") == []
    theirs = StableDiffusionXLPipeline.from_pretrained(tmp_path / "out", torch_dtype=torch.float32)
    ours = load_image_model(file)
    for name, network in parts_of(ours).items():
        wanted = {key.removeprefix("text_model."): value for key, value in getattr(theirs, name).state_dict().items()}
        got = {key.removeprefix("text_model."): value for key, value in network.state_dict().items()}
        assert got.keys() == wanted.keys()
        assert all(torch.equal(got[key], wanted[key]) for key in got)
    assert theirs.config["force_zeros_for_empty_prompt"] is True


def test_what_a_file_does_not_say_it_predicts_is_found(tmp_path):
    file = build_xl_file(tmp_path / "a.safetensors", build_pipeline())
    assert load_image_model(file).prediction_type == "v_prediction"  # random weights give no noise back


def test_it_makes_pictures(file, tmp_path):
    asked = ["image", "a red cube", "--model", str(file), "--size", "64x64", "--steps", "1", "--device", "cpu"]
    assert main([*asked, "-o", str(tmp_path / "a.png")]) == 0


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("conditioner.embedders.0.", "the first text encoder"),
        ("first_stage_model.", "the autoencoder"),
        ("model.diffusion_model.", "the UNet"),
    ],
)
def test_a_file_without_a_part_is_one_line(file, tmp_path, capsys, prefix, words):
    tensors = {name: tensor for name, tensor in load_file(file).items() if not name.startswith(prefix)}
    save_file(tensors, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match=words):
        load_image_model(tmp_path / "b.safetensors")
    code = main(["image", "a", "--model", str(tmp_path / "b.safetensors"), "-o", str(tmp_path / "a.png")])
    assert is_refusal(code, capsys.readouterr().err, words, "Stable Diffusion XL without it")

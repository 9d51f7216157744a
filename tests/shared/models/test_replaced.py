"""Another autoencoder or UNet in a model's place: as if the folder had it; what does not fit is one line."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from shared.errors import InputError, ModelError
from shared.images.generate import generate_image
from shared.images.plan import plan_image
from shared.images.recipe import ImageRecipe
from shared.models.adapters.recipe import adapters_of, weighing
from shared.models.image_model import load_image_model
from tests.shared.models.layouts.narrow import build_single_file, networks
from tests.tiny import build_image_folder, build_xl_folder, tiny_unet, tiny_vae

WEIGHTS = "diffusion_pytorch_model.safetensors"


def kl_vae(**changes) -> AutoencoderKL:
    """Four pixels a latent, four latent channels, as the tiny folder's own, of another class."""
    torch.manual_seed(5)
    config = {
        "block_out_channels": (8, 8, 8), "down_block_types": ("DownEncoderBlock2D",) * 3, "norm_num_groups": 4,
        "up_block_types": ("UpDecoderBlock2D",) * 3, "latent_channels": 4, "scaling_factor": 0.3,
    }  # fmt: skip
    return AutoencoderKL(**{**config, **changes}).eval()


PARTS = {
    "vae": lambda: tiny_vae(7),
    "unet": lambda: tiny_unet(7),
    "vae of another class": kl_vae,
    "unet of other widths": lambda: tiny_unet(7, block_out_channels=(32, 48), sample_size=12),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build_image_folder(tmp_path_factory.mktemp("model") / "tiny")


def recipe(folder, **changes):
    return ImageRecipe.parse({"prompt": "a red cube", "model": str(folder), "steps": 2, **changes})


def made(asked):
    *_, last = generate_image(load_image_model(asked.model, **adapters_of(asked)), asked)
    return last


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_another_folder_is_as_if_it_were_in_place(folder, tmp_path, name):
    component, other = name.split()[0], tmp_path / "other"
    PARTS[name]().save_pretrained(other)
    whole = shutil.copytree(folder, tmp_path / "whole")
    shutil.rmtree(whole / component)
    shutil.copytree(other, whole / component)
    index = json.loads((whole / "model_index.json").read_text())
    index[component] = ["diffusers", json.loads((other / "config.json").read_text())["_class_name"]]
    (whole / "model_index.json").write_text(json.dumps(index))

    wanted, got = made(recipe(whole)), made(recipe(folder, **{component: str(other)}))
    assert torch.equal(got.latents, wanted.latents)
    assert (got.pixels == wanted.pixels).all()
    assert not (got.pixels.shape == (own := made(recipe(folder)).pixels).shape and (got.pixels == own).all())


def test_a_part_in_shards_is_what_one_file_gives(folder, tmp_path):
    wanted = tiny_unet(7)
    wanted.save_pretrained(tmp_path / "unet", max_shard_size="600KB")
    asked = recipe(folder, unet=str(tmp_path / "unet"))
    assert asked.unet == str(tmp_path / "unet" / f"{WEIGHTS}.index.json")
    got = load_image_model(folder, unet=[asked.unet]).unet.state_dict()
    assert all(torch.equal(got[name], tensor) for name, tensor in wanted.state_dict().items())


@pytest.mark.parametrize("name", ["vae", "unet"])
def test_a_file_without_a_configuration_has_that_of_what_it_replaces(folder, tmp_path, name):
    PARTS[name]().save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / WEIGHTS, tmp_path / "loose.safetensors")
    got = made(recipe(folder, **{name: str(tmp_path / "loose.safetensors")}))
    assert (got.pixels == made(recipe(folder, **{name: str(tmp_path / "other")})).pixels).all()


def test_both_at_once_and_in_half_precision(folder, tmp_path):
    for name in ("vae", "unet"):
        PARTS[name]().save_pretrained(tmp_path / name)
    asked = recipe(folder, vae=str(tmp_path / "vae"), unet=str(tmp_path / "unet"))
    model = load_image_model(folder, dtype=torch.float16, **adapters_of(asked))
    for network, name in ((model.unet, "unet"), (model.codec.vae, "vae")):
        wanted = PARTS[name]().to(network.dtype).state_dict()
        assert all(torch.equal(tensor, wanted[key]) for key, tensor in network.state_dict().items())
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert (model.unet.dtype, model.codec.vae.dtype) == (torch.float16, torch.float32)


DIFFERENT = {
    "latent channels of a vae": ("vae", lambda: kl_vae(latent_channels=8), "latent channels: expected 4, .*got 8"),
    "pixels a latent": (
        "vae",
        lambda: kl_vae(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
                       up_block_types=("UpDecoderBlock2D",) * 2),
        "pixels a latent: expected 4, .*got 2",
    ),
    "latent channels of a unet": ("unet", lambda: tiny_unet(in_channels=9), "latent channels: expected 4, .*got 9"),
    "output channels": ("unet", lambda: tiny_unet(out_channels=8), "output channels: expected 4, .*got 8"),
    "text width": ("unet", lambda: tiny_unet(cross_attention_dim=48), "text width: expected 32, .*got 48"),
    "XL's conditions": (
        "unet",
        lambda: tiny_unet(addition_embed_type="text_time", addition_time_embed_dim=8,
                          projection_class_embeddings_input_dim=80),
        "added conditions: expected None, .*got text_time",
    ),
    "another network": ("vae", tiny_unet, "expected AutoencoderKL or .*, got UNet2DConditionModel"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_does_not_go_with_the_model_is_one_line_that_names_both(folder, tmp_path, name, monkeypatch):
    component, build, said = DIFFERENT[name]
    build().save_pretrained(tmp_path / "other")
    asked = recipe(folder, **{component: str(tmp_path / "other")})
    monkeypatch.setattr("shared.models.image_model.load_part", None)  # nothing else is loaded before it is said
    with pytest.raises(ModelError, match=said) as caught:
        load_image_model(folder, **adapters_of(asked))
    assert str(tmp_path / "other") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (str(folder) in str(caught.value)) is (name != "another network")


def test_a_loose_file_unlike_the_models_is_told_of_both(folder, tmp_path):
    tensors = tiny_unet(cross_attention_dim=48).state_dict()
    save_file(tensors, tmp_path / "wide.safetensors")
    save_file({f"model.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "other.safetensors")
    for file, said in (("wide", r"attn2.to_k.weight: expected shape \(32, 32\), got \(32, 48\)"), ("other", "none of")):
        with pytest.raises(ModelError, match=f"{file}.*{said}.*like the unet of model {folder}"):
            load_image_model(folder, unet=[str(tmp_path / f"{file}.safetensors")])


def test_a_damaged_part_is_one_line(folder, tmp_path):
    tiny_vae(7).save_pretrained(tmp_path / "other")
    file = tmp_path / "other" / WEIGHTS
    tensors = load_file(file)
    tensors[min(tensors)].view(-1)[0] = torch.nan
    save_file(tensors, file)
    with pytest.raises(ModelError, match=f"{file}.*expected finite numbers"):
        load_image_model(folder, vae=[str(file)])
    (tmp_path / "other" / "config.json").write_text('{"_class_name": "AutoencoderTiny", "latent_channels": "four"}')
    with pytest.raises(ModelError, match=r"latent channels: expected 4, .*got four"):
        load_image_model(folder, vae=[str(file)])


def test_models_with_two_text_encoders_take_them_too(tmp_path):
    xl = build_xl_folder(tmp_path / "xl")
    kl_vae().save_pretrained(tmp_path / "vae")
    got = load_image_model(xl, vae=[str(tmp_path / "vae" / WEIGHTS)])
    assert type(got.codec.vae) is AutoencoderKL
    assert got.codec.vae.config["scaling_factor"] == 0.3


def test_single_files_take_them_too(tmp_path):
    file = build_single_file(tmp_path / "a.safetensors", 2, metadata={"modelspec.prediction_type": "v"})
    unet, vae, _, _ = networks(2, seed=3)
    unet.save_pretrained(tmp_path / "unet")
    shutil.copy(tmp_path / "unet" / WEIGHTS, tmp_path / "loose.safetensors")
    vae.register_to_config(scaling_factor=0.5)
    vae.save_pretrained(tmp_path / "vae")
    got = load_image_model(file, unet=[str(tmp_path / "loose.safetensors")], vae=[str(tmp_path / "vae" / WEIGHTS)])
    for network, wanted in ((got.unet, unet), (got.codec.vae, vae)):
        assert all(torch.equal(tensor, wanted.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert got.codec.vae.config["scaling_factor"] == 0.5
    assert (got.own_size, got.prediction_type) == ((768, 768), "v_prediction")
    placed = load_image_model(file, unet=[str(tmp_path / "unet" / WEIGHTS)])
    assert placed.own_size == (512, 512)  # what its own configuration says
    tiny_vae().save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match=f"pixels a latent: expected 8, as model {file} has, got 4"):
        load_image_model(file, vae=[str(tmp_path / "other" / WEIGHTS)])


def test_a_recipe_names_the_file_of_a_folder(tmp_path):
    tiny_vae().save_pretrained(tmp_path / "vae")
    asked = recipe("world", vae=str(tmp_path / "vae"), lora=["a.safetensors"])
    assert asked.vae == str(tmp_path / "vae" / WEIGHTS)
    assert asked.files() == {"vae": asked.vae, "lora.0": "a.safetensors"}
    assert asked.brings == ("vae",)
    assert weighing(asked) == {"vae": (asked.vae,)}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: expected a \.safetensors file"):
        recipe("world", unet=str(tmp_path / "empty"))


def test_a_plan_counts_what_replaces(folder, tmp_path):
    wide = tiny_unet(7, block_out_channels=(32, 96))
    wide.save_pretrained(tmp_path / "unet")
    model = load_image_model(folder)
    networks = [wide, model.codec.vae, model.text.text_encoder]
    bytes_of_all = sum(4 * p.numel() for network in networks for p in network.parameters())
    planned = plan_image(recipe(folder, unet=str(tmp_path / "unet")))
    assert 0 <= planned.weights - bytes_of_all < 1024  # and a few buffers

import shutil
import subprocess
import sys

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file

from shared.errors import ModelError
from shared.models.image_model import load_image_model
from shared.models.layouts.single_file import probed
from shared.models.source import check_model
from tests.shared.models.layouts import narrow
from tests.shared.models.layouts.narrow import assert_same_weights, build_folder, build_single_file
from tests.tiny import tiny_unet

EPSILON, V = {"modelspec.prediction_type": "epsilon"}, {"modelspec.prediction_type": "v"}


@pytest.fixture(scope="module", params=[1, 2], ids=["SD 1", "SD 2"])
def both(request, tmp_path_factory):
    """The version, a folder and a single file of the same weights."""
    place = tmp_path_factory.mktemp(f"sd{request.param}")
    metadata = EPSILON if request.param == 1 else V
    folder = build_folder(place / "folder", request.param)
    return request.param, folder, build_single_file(place / "single/a.safetensors", request.param, metadata=metadata)


def parts_of(model):
    return {"unet": model.unet, "vae": model.codec.vae, "text_encoder": model.text.text_encoder}


def own_keys(config):
    return {key: value for key, value in config.items() if not key.startswith("_")}


def test_a_single_file_is_the_folder(both):
    version, folder, file = both
    check_model(file)
    one, other = load_image_model(folder), load_image_model(file)
    for name, network in parts_of(one).items():
        assert_same_weights(network, parts_of(other)[name])
        assert not parts_of(other)[name].training
        for key in ("attention_head_dim", "use_linear_projection", "hidden_act", "layer_norm_eps", "norm_eps"):
            assert getattr(network.config, key, None) == getattr(parts_of(other)[name].config, key, None)
    assert other.scheduler_class is one.scheduler_class
    assert own_keys(one.scheduler_config) == own_keys(other.scheduler_config)
    assert other.prediction_type == ("epsilon" if version == 1 else "v_prediction")
    assert other.own_size == ((512, 512) if version == 1 else (768, 768))
    prompts = ["a red cube", ""]
    assert torch.equal(one.text.encode(prompts), other.text.encode(prompts))


def test_names_are_those_that_diffusers_gives_them(both):
    version, _, file = both
    model, stored = load_image_model(file), load_file(file)
    text = model.text.text_encoder
    if version == 1:
        theirs = convert_ldm_clip_checkpoint(stored)
    else:
        theirs = convert_open_clip_checkpoint(text, {k: v for k, v in stored.items() if ".resblocks.2." not in k})
    theirs = {name.removeprefix("text_model."): tensor for name, tensor in theirs.items()}
    states = {name.removeprefix("text_model."): tensor for name, tensor in text.state_dict().items()}
    for wanted, got in (
        (convert_ldm_unet_checkpoint(dict(stored), model.unet.config), model.unet.state_dict()),
        (convert_ldm_vae_checkpoint(dict(stored), model.codec.vae.config), model.codec.vae.state_dict()),
        (theirs, states),
    ):
        assert wanted.keys() - got.keys() <= {"embeddings.position_ids", "text_projection.weight"}
        assert all(torch.equal(wanted[name].float(), got[name]) for name in got)


def test_stock_diffusers_computes_the_same(both):
    """from_single_file with the folder's configurations: what a file of this layout means to everybody else."""
    _, folder, file = both
    theirs = StableDiffusionPipeline.from_single_file(str(file), config=str(folder), local_files_only=True)
    ours = load_image_model(file)
    x, t, text = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 5, 64)
    with torch.no_grad():
        wanted = theirs.unet(x, t, encoder_hidden_states=text).sample
        torch.testing.assert_close(
            ours.unet(x, t, encoder_hidden_states=text).sample, wanted.float(), rtol=1e-4, atol=1e-5
        )


def poison(tensors):
    tensors["first_stage_model.decoder.conv_in.weight"].view(-1)[3] = torch.nan


def without(prefix):
    def edit(tensors):
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    return edit


FAULTS = {
    "NaN": (poison, r"decoder.conv_in.weight: expected finite numbers"),
    "a tensor less": (without("model.diffusion_model.middle_block.1.norm.bias"), r"1 missing, first mid_block.att"),
    "a tensor more": (
        lambda tensors: tensors.update({"model.diffusion_model.middle_block.1.extra.weight": torch.ones(2)}),
        r"1 left over, first mid_block.attentions.0.extra.weight",
    ),
    "a wrong shape": (
        lambda tensors: tensors.update({"model.diffusion_model.out.0.weight": torch.ones(33)}),
        r"conv_norm_out.weight: expected shape \(32,\)",
    ),
    "no autoencoder": (without("first_stage_model."), "autoencoder, .*got Stable Diffusion 1 without it"),
    "no text encoder": (without("cond_stage_model."), "text encoder, .*got Stable Diffusion 1 without it"),
    "a level less": (without("model.diffusion_model.input_blocks.5."), "levels of equal residual blocks|a tensor"),
    "channels that no network has": (
        lambda tensors: tensors.update(
            {"model.diffusion_model.input_blocks.1.0.in_layers.2.weight": torch.ones(33, 1)}
        ),
        "levels of equal|a Stable Diffusion 1, got",
    ),
    "no input": (without("model.diffusion_model.input_blocks.0."), "a tensor .*input_blocks.0.0.weight, got none"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_one_line(fault, tmp_path):
    edit, message = FAULTS[fault]
    file = build_single_file(tmp_path / "a.safetensors", 1, metadata=EPSILON, edit=edit)
    with pytest.raises(ModelError, match=message) as caught:
        load_image_model(file)
    assert len(str(caught.value).splitlines()) == 1


def test_without_words_it_says_where_they_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    file = build_single_file(tmp_path / "a.safetensors", 1, metadata=EPSILON)
    tokenizer = tmp_path / "tokenizer"
    snapshot = tmp_path / "empty/models--openai--clip-vit-large-patch14/snapshots/abc"
    shutil.move(tokenizer, tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"vocabulary of CLIP.*Put the folder tokenizer"):
        load_image_model(file)
    shutil.copytree(tmp_path / "elsewhere", snapshot)
    assert load_image_model(file).text.vocabulary()
    tokenizer.mkdir()
    with pytest.raises(ModelError, match=r"expected tokenizer\.json or vocab\.json"):
        load_image_model(file)


def test_what_a_file_says_of_its_prediction(tmp_path):
    file = build_single_file(tmp_path / "a.safetensors", 2, metadata=EPSILON)
    model = load_image_model(file)
    assert (model.prediction_type, model.own_size) == ("epsilon", (512, 512))
    build_single_file(file, 1, edit=lambda t: t.update(v_pred=torch.zeros(0), ztsnr=torch.zeros(0)))
    model = load_image_model(file)
    assert model.prediction_type == "v_prediction"
    assert model.schedule.reaches_pure_noise
    build_single_file(file, 1)
    beside = tmp_path / "a.yaml"
    for word, wanted in (("v", "v_prediction"), ("eps", "epsilon")):
        beside.write_text(f"model:\n  params:\n    parameterization: {word}\n")
        assert load_image_model(file).prediction_type == wanted
    for wrong in ("model: 3", "model: {params: {parameterization: x}}", "[", "model: !!python/object:os.x {}"):
        beside.write_text(wrong)
        with pytest.raises(ModelError, match=r"a\.yaml"):
            load_image_model(file)


def test_a_network_that_predicts_noise_is_told_from_one_that_does_not():
    """Trained for a moment at the last timestep: to give the noise back, or a picture that is not in it."""
    for target, wanted in ((lambda noise: noise, "epsilon"), (lambda noise: -noise.roll(1, 0), "v_prediction")):
        unet = tiny_unet().train()
        optimizer = torch.optim.Adam(unet.parameters(), 2e-3)
        for seed in range(40):
            noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
            made = unet(noise, torch.tensor([999]), encoder_hidden_states=torch.zeros(4, 2, 32)).sample
            optimizer.zero_grad()
            (made - target(noise)).square().mean().backward()
            optimizer.step()
        assert probed(unet.eval()) == wanted
    assert probed(UNet2DConditionModel.from_pretrained("shared/weights/world/unet")) == "v_prediction"


def test_files_merged_by_early_tools_name_the_text_encoder_otherwise(tmp_path):
    def shorten(tensors):
        for name in [name for name in tensors if "text_model." in name]:
            tensors[name.replace("text_model.", "")] = tensors.pop(name)

    file = build_single_file(tmp_path / "a.safetensors", 1, metadata=EPSILON)
    before = load_image_model(file).text.encode(["a red cube"])
    build_single_file(file, 1, metadata=EPSILON, edit=shorten)
    assert torch.equal(load_image_model(file).text.encode(["a red cube"]), before)


PEAK = """
import sys
from pathlib import Path
from shared.compute.process_memory import peak_bytes, resident_bytes
from shared.models.image_model import load_image_model
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = resident_bytes()
model = load_image_model(sys.argv[1])
networks = model.unet, model.codec.vae, model.text.text_encoder
print((peak_bytes() - before) / sum(tensor.nbytes for part in networks for tensor in part.state_dict().values()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak from now on")
def test_loading_takes_the_memory_of_the_model_and_little_more(tmp_path, monkeypatch):
    monkeypatch.setitem(narrow.WIDTHS, 1, (128, 256, 256, 256))
    file = build_single_file(tmp_path / "a.safetensors", 1, metadata=EPSILON)
    command = [sys.executable, "-c", PEAK, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert float(done.stdout) < 1.15

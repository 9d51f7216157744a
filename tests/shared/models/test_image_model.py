import hashlib
import json
import shutil

import pytest
import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from shared.attention import AttendProcessor
from shared.diffusion.conditioning import Conditioning
from shared.errors import ModelError
from shared.models.image_model import load_image_model
from shared.models.save import save_image_model
from shared.models.source import read_index, resolve_model
from tests.tiny import build_image_folder, tiny_text, tiny_unet, tiny_vae

UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
TEXT_WEIGHTS = "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return build_image_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "tiny")


def change(file, edit):
    """Rewrite a safetensors file with its tensors edited in place in a dict."""
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file)


def change_json(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def first(tensors):
    return sorted(tensors)[0]


def test_everything_saved_comes_back(original):
    model = load_image_model(original)
    tokenizer, text_encoder = tiny_text()
    for got, saved in (
        (model.unet, tiny_unet()),
        (model.codec.vae, tiny_vae()),
        (model.text.text_encoder, text_encoder),
    ):
        saved = saved.half().float().state_dict()  # the folder is in half precision
        assert all(torch.equal(tensor, saved[name]) for name, tensor in got.state_dict().items())
        assert not got.training
        assert not any(parameter.requires_grad for parameter in got.parameters())
        assert {tensor.device.type for tensor in (*got.parameters(), *got.buffers())} == {"cpu"}
    assert model.text.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert model.scheduler_config["prediction_type"] == model.denoiser.prediction_type == "v_prediction"
    assert model.schedule.reaches_pure_noise
    assert (model.default_size, model.codec.factor, model.name) == (64, 4, str(original))


def test_networks_compute_what_diffusers_own_loading_computes(original):
    model = load_image_model(original)
    stock = UNet2DConditionModel.from_pretrained(original / "unet")
    x, t, text = torch.randn(1, 4, 16, 16), torch.tensor([7]), torch.randn(1, 5, 32)
    with torch.no_grad():
        wanted = stock(x, t, encoder_hidden_states=text).sample
        torch.testing.assert_close(model.denoiser(x, t, Conditioning(text)).v, wanted, rtol=1e-4, atol=1e-5)


def test_every_attention_goes_through_attend(original):
    model = load_image_model(original)
    assert model.unet.attn_processors
    assert all(isinstance(processor, AttendProcessor) for processor in model.unet.attn_processors.values())


def test_dtype_is_the_callers(original):
    model = load_image_model(original, dtype=torch.bfloat16)
    for network in (model.unet, model.codec.vae, model.text.text_encoder):
        assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    assert model.text.encode(["a red cube"]).dtype == torch.float32


def test_schedulers_are_fresh_and_of_the_models_kind(tmp_path):
    tokenizer, text_encoder = tiny_text()
    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear", prediction_type="epsilon")
    save_image_model(
        tmp_path, unet=tiny_unet(), vae=tiny_vae(), text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler
    )
    model = load_image_model(tmp_path)
    one, two = model.make_scheduler(), model.make_scheduler()
    assert type(one) is EulerDiscreteScheduler
    assert one is not two
    assert one.config.beta_schedule == "scaled_linear"
    assert model.denoiser.prediction_type == "epsilon"


def test_hashes_are_of_the_files(folder):
    model = load_image_model(folder)
    wanted = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (UNET, VAE, TEXT_WEIGHTS)}
    assert model.hashes() == wanted
    (folder / UNET).unlink()
    assert model.hashes() == wanted  # once computed they are kept


def test_shards_are_read_by_their_index(folder):
    tensors = load_file(folder / UNET)
    (folder / UNET).unlink()
    names = sorted(tensors)
    parts = {"diffusion_pytorch_model-00001-of-00002.safetensors": names[::2]}
    parts["diffusion_pytorch_model-00002-of-00002.safetensors"] = names[1::2]
    for file, kept in parts.items():
        save_file({name: tensors[name] for name in kept}, folder / "unet" / file)
    index = {"weight_map": {name: file for file, kept in parts.items() for name in kept}}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    got = load_image_model(folder).unet.state_dict()
    assert all(torch.equal(got[name], tensor.float()) for name, tensor in tensors.items())
    (folder / "unet" / next(iter(parts))).unlink()
    with pytest.raises(ModelError, match="every shard"):
        load_image_model(folder)


def test_text_encoders_with_a_prefix_and_position_ids(folder):
    before = load_image_model(folder).text.encode(["a red cube"])

    def age(tensors):
        for name in list(tensors):
            tensors[f"text_model.{name}"] = tensors.pop(name)
        tensors["text_model.embeddings.position_ids"] = torch.arange(16)[None]

    change(folder / TEXT_WEIGHTS, age)
    assert torch.equal(load_image_model(folder).text.encode(["a red cube"]), before)


def truncate(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def rename_all(tensors):
    for name in list(tensors):
        tensors[f"other.{name}"] = tensors.pop(name)


def widen(tensors):
    name = "conv_in.weight"
    tensors[name] = torch.cat([tensors[name], tensors[name]])


def poison(value):
    return lambda tensors: tensors["mid_block.resnets.0.conv1.weight"].view(-1)[5:6].fill_(value)


CORRUPTIONS = {
    "half a file": (lambda f: truncate(f / UNET, 0.5), "unet.*whole safetensors file"),
    "half a header": (lambda f: (f / VAE).write_bytes((f / VAE).read_bytes()[:100]), "vae.*whole safetensors file"),
    "an empty file": (lambda f: (f / UNET).write_bytes(b""), "unet.*whole safetensors file"),
    "a text file": (lambda f: (f / UNET).write_text("version https://git-lfs.github.com/spec/v1\n" * 9), "unet"),
    "no key fits": (lambda f: change(f / UNET, rename_all), "unet.*none of which fits"),
    "a key is missing": (lambda f: change(f / UNET, lambda t: t.pop(first(t))), "unet.*1 missing, first conv_in.bias"),
    "a key too many": (lambda f: change(f / VAE, lambda t: t.update(extra=torch.ones(1))), "vae.*1 left over.*extra"),
    "a wrong shape": (lambda f: change(f / UNET, widen), r"unet: conv_in.weight: expected shape \(32, .*got \(64,"),
    "NaN": (lambda f: change(f / UNET, poison(torch.nan)), "conv1.weight: expected finite numbers"),
    "infinity": (lambda f: change(f / UNET, poison(torch.inf)), "conv1.weight: expected finite numbers"),
    "no weights": (lambda f: (f / UNET).unlink(), "unet.*expected a .safetensors file, got none"),
    "a pickle": (lambda f: (f / UNET).rename(f / "unet/diffusion_pytorch_model.bin"), "unet.*pickle"),
    "another config": (lambda f: change_json(f / "unet/config.json", cross_attention_dim=48), "unet.*shape"),
    "a config that cannot be": (lambda f: change_json(f / "unet/config.json", down_block_types=["No"]), "unet"),
    "no config": (lambda f: (f / "vae/config.json").unlink(), "vae/config.json.*JSON"),
    "broken JSON": (lambda f: (f / "vae/config.json").write_text("{"), "vae/config.json.*JSON"),
    "no unet": (lambda f: shutil.rmtree(f / "unet"), "expected a subfolder unet"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer"),
    "broken tokenizer": (lambda f: (f / "tokenizer/tokenizer.json").write_text("{}"), "tokenizer"),
    "no index": (lambda f: (f / "model_index.json").unlink(), "model_index.json"),
    "an index of something else": (lambda f: (f / "model_index.json").write_text("[1]"), "JSON object, got list"),
    "another network": (
        lambda f: change_json(f / "model_index.json", unet=["diffusers", "SD3Transformer2DModel"]),
        "unet.*expected UNet2DConditionModel, got SD3Transformer2DModel",
    ),
    "code of its own": (lambda f: change_json(f / "model_index.json", unet=["evil", "os"]), "unet.*got os"),
    "an unknown scheduler": (
        lambda f: change_json(f / "model_index.json", scheduler=["x", "YScheduler"]),
        "YScheduler",
    ),
    "a scheduler that cannot be": (
        lambda f: change_json(f / "scheduler/scheduler_config.json", beta_schedule="sigmoid"),
        "scheduler",
    ),
    "an unknown parameterisation": (
        lambda f: change_json(f / "scheduler/scheduler_config.json", prediction_type="noise"),
        "noise",
    ),
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corrupt_folder_is_one_clear_line(kind, folder):
    corrupt, message = CORRUPTIONS[kind]
    corrupt(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_image_model(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert "expected" in line
    assert caught.value.exit_code == 2


def test_parts_of_different_models_are_refused(folder):
    torch.manual_seed(0)
    tiny_unet(cross_attention_dim=48).save_pretrained(folder / "unet")
    with pytest.raises(ModelError, match="text width of the unet: expected 32, got 48"):
        load_image_model(folder)


def test_sources(folder, tmp_path, monkeypatch):
    assert resolve_model(folder) == folder
    assert resolve_model(str(folder)) == folder
    monkeypatch.chdir(tmp_path)
    assert resolve_model("tiny").samefile(folder)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "old.ckpt").write_bytes(b"x")
    for source, message in (
        ("/nowhere/at/all", "no such folder"),
        ("nowhere", "no such folder"),
        ("", "no name"),
        (tmp_path / "notes.txt", "another kind of file"),
        (tmp_path / "old.ckpt", "pickle"),
        ("missing.bin", "pickle"),
        ("owner/name", "hub"),  # tests have no network
    ):
        with pytest.raises(ModelError, match=message):
            resolve_model(source)
    with pytest.raises(ModelError, match=r"model_index\.json"):
        read_index(tmp_path)


def test_single_files_must_be_whole_checkpoints(folder, tmp_path):
    with pytest.raises(ModelError, match="none of which fits"):
        load_image_model(folder / UNET)  # a component, not a checkpoint
    truncate(folder / UNET, 0.7)
    with pytest.raises(ModelError, match="whole safetensors file"):
        load_image_model(folder / UNET)
    save_file({"model.diffusion_model.x": torch.ones(2)}, tmp_path / "part.safetensors")
    with pytest.raises(ModelError, match=r"part\.safetensors") as caught:
        load_image_model(tmp_path / "part.safetensors")
    assert "\n" not in str(caught.value)


def test_a_mistyped_argument_is_no_part(folder):
    with pytest.raises(TypeError, match="no argument 'deivce'"):
        load_image_model(folder, deivce="cpu")


@pytest.mark.parametrize("method", ["torchao", "bitsandbytes"])
def test_weights_that_were_saved_quantised_are_refused(folder, method):
    change_json(folder / "unet" / "config.json", quantization_config={"quant_method": method})
    with pytest.raises(ModelError, match=f"expected weights that were saved whole, got quantised ones, by {method}"):
        load_image_model(folder)

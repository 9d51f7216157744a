import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from shared.errors import InputError, ModelError
from shared.models.image_model import load_image_model
from shared.models.layouts.convert import convert
from tests.shared.models.layouts.narrow import build_folder, build_single_file
from tests.tiny import build_image_folder

METADATA = {"modelspec.prediction_type": "v"}


def weights(folder):
    """Of all networks of a folder, by the names that they have here."""
    model = load_image_model(folder)
    parts = {"unet": model.unet, "vae": model.codec.vae, "text": model.text.text_encoder}
    return {
        f"{part}.{name}": tensor for part, network in parts.items() for name, tensor in network.state_dict().items()
    }


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("pickled", [False, True])
def test_a_single_file_becomes_the_folder_it_was_made_of(version, pickled, tmp_path):
    folder = build_folder(tmp_path / "folder", version)
    file = build_single_file(tmp_path / "a.safetensors", version, metadata=METADATA)
    if pickled:
        torch.save({"state_dict": load_file(file), "global_step": 3}, tmp_path / "a.ckpt")
        file = tmp_path / "a.ckpt"
    notes = convert(file, tmp_path / "new", "v_prediction" if pickled else None)
    assert notes == []
    assert same(weights(tmp_path / "new"), weights(folder))
    assert load_image_model(tmp_path / "new").prediction_type == "v_prediction"
    stored = load_file(tmp_path / "new/unet/diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}  # as in the file
    stock = StableDiffusionPipeline.from_pretrained(tmp_path / "new")
    wanted = StableDiffusionPipeline.from_pretrained(folder).text_encoder.state_dict()
    assert same(stock.text_encoder.state_dict(), wanted)


def test_what_a_file_does_not_say_is_found_and_said(tmp_path):
    build_single_file(tmp_path / "a.safetensors", 1)
    notes = convert(tmp_path / "a.safetensors", tmp_path / "new")
    assert len(notes) == 1
    assert load_image_model(tmp_path / "new").prediction_type in notes[0]


@pytest.fixture
def pickled(tmp_path):
    """A folder as early diffusers saved it, with code in it, too."""
    folder = build_image_folder(tmp_path / "old")
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        file = folder / part / f"{name}.safetensors"
        old = f"{'pytorch_' if part == 'text_encoder' else ''}{name}.bin"
        torch.save(load_file(file), folder / part / old)
        file.unlink()
    (folder / "unet" / "my_unet.py").write_text("raise SystemExit('code of a stranger')")
    return folder


def test_a_folder_of_pickles(pickled, tmp_path):
    with pytest.raises(ModelError, match="kinoform convert"):
        load_image_model(pickled)
    assert convert(pickled, tmp_path / "new") == ["left behind: unet/my_unet.py"]
    assert same(weights(tmp_path / "new"), weights(build_image_folder(tmp_path / "fresh")))
    assert not list((tmp_path / "new").rglob("*.py"))
    assert not list((tmp_path / "new").rglob("*.bin"))


def test_shards_of_pickles_beside_safetensors(tmp_path):
    folder = build_image_folder(tmp_path / "old")
    whole = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(whole)
    names = sorted(tensors)
    parts = {f"diffusion_pytorch_model-0000{n + 1}-of-00002.bin": names[n::2] for n in range(2)}
    for file, kept in parts.items():
        torch.save({name: tensors[name] for name in kept}, whole.with_name(file))
    index = {"metadata": {}, "weight_map": {name: file for file, kept in parts.items() for name in kept}}
    whole.with_name("diffusion_pytorch_model.bin.index.json").write_text(json.dumps(index))
    before = weights(folder)
    whole.unlink()
    assert convert(folder, tmp_path / "new") == []
    assert same(weights(tmp_path / "new"), before)


def test_what_cannot_be(pickled, tmp_path):
    file = build_single_file(tmp_path / "a.safetensors", 1, metadata=METADATA)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    torch.save({"a": torch.ones(2)}, tmp_path / "b.pt")
    whole = build_image_folder(tmp_path / "whole")
    for source, out, message in (
        (tmp_path / "none.ckpt", tmp_path / "x", "a file or folder that exists"),
        (tmp_path / "notes.txt", tmp_path / "x", "one ending in .bin"),
        (file, tmp_path / "x.safetensors", "safetensors already"),
        (file, tmp_path / "full", "a new or empty folder"),
        (pickled, tmp_path / "x.safetensors", "a folder, as the model is one"),
        (pickled, pickled / "x", "a folder outside"),
        (whole, tmp_path / "x", r"pickles \(.bin, .ckpt, .pt\) to convert, got none"),
        (tmp_path / "full", tmp_path / "x", "model_index.json"),
        (tmp_path / "b.pt", tmp_path / "x", "a whole Stable Diffusion checkpoint"),
        (whole / "unet/diffusion_pytorch_model.safetensors", tmp_path / "x", "a whole Stable Diffusion checkpoint"),
    ):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(InputError, match=message):
            convert(source, out)
        assert sorted(tmp_path.iterdir()) == before


def test_a_pickle_that_is_refused_leaves_no_folder(pickled, tmp_path):
    (pickled / "text_encoder/pytorch_model.bin").write_bytes(b"no pickle")
    with pytest.raises(ModelError, match=r"text_encoder/pytorch_model\.bin"):
        convert(pickled, tmp_path / "new")
    assert not (tmp_path / "new").exists()

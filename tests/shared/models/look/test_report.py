import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.model_classes import save
from shared.errors import ModelError
from shared.models.image_model import load_image_model
from shared.models.look.report import FOLDER, LORA, SINGLE, TENSORS, abilities, look
from shared.models.source import WORLD
from tests.shared.models.layouts.narrow import build_single_file
from tests.shared.models.pipelines.tiny.table import TINY
from tests.tiny import build_image_folder
from tests.tiny_given import build_depth_folder, build_upscaler_folder


@pytest.fixture
def folder(tmp_path):
    return build_image_folder(tmp_path / "tiny")


def count(network):
    return sum(tensor.numel() for tensor in network.state_dict().values())


def test_a_folder_is_what_loading_it_finds(folder):
    found, model = look(folder), load_image_model(folder)
    parts = {part.name: part for part in found.parts}
    assert (found.layout, found.kind) == (FOLDER, "StableDiffusionPipeline")
    for name, network in (("unet", model.unet), ("vae", model.codec.vae), ("text_encoder", model.text.text_encoder)):
        assert parts[name].kind == type(network).__name__
        assert parts[name].dtypes == {"F16": count(network)}
        assert parts[name].bytes == 2 * count(network)
    assert (found.prediction_type, found.size, found.can) == ("v_prediction", (64, 64), ("image", "asset"))
    assert found.parameters == sum(map(count, (model.unet, model.codec.vae, model.text.text_encoder)))
    assert found.hashes() == model.hashes()


def test_the_embedded_model_can_everything():
    found = look(WORLD)
    assert found.can == ("image", "clip", "asset", "score")
    assert found.frames == 16
    assert {"temporal", "image_encoder"} <= {part.name for part in found.parts}


def test_pipelines_of_diffusers_can_what_their_classes_make(tmp_path):
    for name, can in (("FluxPipeline", ("image", "asset")), ("AnimateDiffPipeline", ("clip",))):
        save(TINY[name], tmp_path / name)
        found = look(tmp_path / name)
        assert (found.kind, found.can, found.problem) == (name, can, "")
    index = json.loads((tmp_path / "FluxPipeline/model_index.json").read_text())
    (tmp_path / "FluxPipeline/model_index.json").write_text(json.dumps({**index, "_class_name": "FluxesPipeline"}))
    assert abilities(tmp_path / "FluxPipeline")[1] == (
        "as the installed diffusers has no FluxesPipeline that makes pictures or clips"
    )


def test_models_that_see_more_than_latents_make_pictures_alone(tmp_path):
    assert abilities(build_depth_folder(tmp_path / "deep")) == (("image",), "")
    assert abilities(build_upscaler_folder(tmp_path / "upscaler")) == (("image",), "")


def test_what_is_wrong_stands_beside_its_part(folder):
    unet = folder / "unet/diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_suffix(".bin"))
    shutil.rmtree(folder / "vae")
    (folder / "text_encoder/model.safetensors").unlink()
    found = look(folder)
    problems = {part.name: part.problem for part in found.parts if part.problem}
    assert problems.keys() == {"unet", "vae", "text_encoder"}
    assert "a pickle" in problems["unet"]
    assert (problems["vae"], problems["text_encoder"]) == ("missing", "no weights")
    assert found.can == ()
    assert "vae" in found.problem


def test_code_is_named_and_not_run(folder):
    (folder / "unet" / "my_unet.py").write_text(f"open({str(folder / 'was_run')!r}, 'w')")
    (folder / "pipeline.py").write_text(f"open({str(folder / 'was_run')!r}, 'w')")
    assert look(folder).code == ("pipeline.py", "unet/my_unet.py")
    load_image_model(folder)
    assert not (folder / "was_run").exists()


def test_single_files(tmp_path):
    file = build_single_file(tmp_path / "a.safetensors", 2, metadata={"modelspec.prediction_type": "v"})
    found = look(file)
    assert (found.layout, found.kind, found.prediction_type) == (SINGLE, "Stable Diffusion 2", "v_prediction")
    assert [part.name for part in found.parts] == ["unet or transformer", "vae", "text encoders", "other tensors"]
    assert found.size == load_image_model(file).own_size == (768, 768)
    assert found.parts[0].parameters == count(load_image_model(file).unet)
    assert found.can == abilities(file)[0] == ("image", "asset")
    assert found.hashes() == {"a.safetensors": hashlib.sha256(file.read_bytes()).hexdigest()}
    save_file({"double_blocks.0.img_attn.norm.key_norm.scale": torch.ones(3)}, file)
    found = look(file)
    assert (found.layout, found.kind, found.can) == (SINGLE, "Flux", ())
    assert "--transformer FILE" in found.problem


def test_other_files(folder, tmp_path):
    found = look(folder / "unet/diffusion_pytorch_model.safetensors")
    assert (found.layout, found.kind, found.can) == (TENSORS, "UNet2DConditionModel", ())
    save_file({"lora_unet_x_attn2_to_k.lora_down.weight": torch.ones(4, 768)}, tmp_path / "style.safetensors")
    found = look(tmp_path / "style.safetensors")
    assert (found.layout, found.lora.ranks, found.lora.target) == (LORA, (4,), "Stable Diffusion 1")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 100)
    torch.save({"a": torch.ones(2)}, tmp_path / "pickle.safetensors")
    for name, message in (("broken", "a whole safetensors file"), ("pickle", "a pickle")):
        with pytest.raises(ModelError, match=message):
            look(tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelError, match=r"model_index\.json"):
        look(folder / "unet")

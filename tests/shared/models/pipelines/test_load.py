"""Folders to pipelines: as diffusers itself loads them, and stricter."""

import json
import shutil

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from shared.errors import ModelError
from shared.models.pipelines.load import load_pipeline
from shared.models.weight_files import weight_hashes

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def test_a_folder_loads_as_diffusers_loads_it(folder_of):
    folder = folder_of("FluxPipeline")
    model, theirs = load_pipeline(folder), DiffusionPipeline.from_pretrained(folder)
    assert type(model.pipeline) is type(theirs)
    assert model.pipeline.components.keys() == theirs.components.keys()
    for name, network in model.networks.items():
        ours = network.state_dict()
        for key, tensor in theirs.components[name].state_dict().items():
            assert torch.equal(tensor, ours[key]), f"{name} {key}"
        assert not network.training
        assert not any(weight.requires_grad for weight in network.parameters())
    assert dict(model.pipeline.scheduler.config) == dict(theirs.scheduler.config)
    assert model.pipeline.tokenizer_2("a red cube").input_ids == theirs.tokenizer_2("a red cube").input_ids
    assert (model.makes, model.class_name, model.hashes()) == ("image", "FluxPipeline", weight_hashes(folder))


def test_settings_of_the_index_are_kept(folder_of):
    assert (
        load_pipeline(
            folder_of("StableDiffusionXLPipeline"), pipeline_class="StableDiffusionXLPipeline"
        ).pipeline.config.force_zeros_for_empty_prompt
        is True
    )


def test_precision(folder_of):
    model = load_pipeline(folder_of("FluxPipeline"), dtype=torch.bfloat16)
    assert {network.dtype for network in model.networks.values()} == {torch.bfloat16}


@pytest.fixture
def folder(folder_of, tmp_path):
    return shutil.copytree(folder_of("FluxPipeline"), tmp_path / "model")


def _weights(change):
    def broken(folder):
        tensors = load_file(folder / WEIGHTS)
        change(tensors, min(tensors))
        save_file(tensors, folder / WEIGHTS, {"format": "pt"})

    return broken


def _named(value):
    def broken(folder):
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps({**index, **value}))

    return broken


FAULTS = {
    "missing weight": (_weights(lambda tensors, name: tensors.pop(name)), "1 missing keys, first"),
    "left over": (
        _weights(lambda tensors, name: tensors.update(other=torch.ones(2))),
        "1 unexpected keys, first other",
    ),
    "misshapen": (_weights(lambda tensors, name: tensors.update({name: torch.ones(3, 3)})), "weights in"),
    "NaN": (_weights(lambda tensors, name: tensors[name].fill_(torch.nan)), "finite numbers"),
    "no class": (_named({"_class_name": "NoPipeline"}), "a pipeline class of the installed diffusers"),
    "no pipeline": (_named({"_class_name": "AutoencoderKL"}), "a pipeline class of the installed diffusers"),
    "no class of a part": (_named({"vae": ["diffusers", "NoVae"]}), "vae of model"),
    "no part": (_named({"vae": ["transformers", "CLIPTextModel"]}), "CLIPTextModel"),
    "no tokenizer": (lambda folder: (folder / "tokenizer_2/tokenizer.json").write_text("{"), "tokenizer_2"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_model_is_one_line(folder, fault):
    broken, said = FAULTS[fault]
    broken(folder)
    with pytest.raises(ModelError, match=said) as raised:
        load_pipeline(folder)
    assert "\n" not in str(raised.value)


def test_another_class_takes_the_parts_that_it_wants(folder_of):
    folder = folder_of("StableDiffusionXLPipeline")
    model = load_pipeline(folder, pipeline_class="StableDiffusionXLInpaintPipeline")
    assert model.class_name == "StableDiffusionXLInpaintPipeline"
    with pytest.raises(ModelError, match="the parts of a WanPipeline"):
        load_pipeline(folder, pipeline_class="WanPipeline")


@pytest.mark.parametrize(
    ("part", "method", "line"),
    [
        ("transformer", "bitsandbytes", "saved whole, got quantised ones, by bitsandbytes. Take the model"),
        ("text_encoder_2", "torchao", "saved whole, got quantised ones, by torchao"),
        ("transformer", "torchao", r"the package torchao, got none. Try: pip install 'kinoform\[torchao\]'"),
    ],
)
def test_weights_that_were_saved_quantised(folder, part, method, line, monkeypatch):
    """Those of a network of diffusers, by torchao, are loaded: tests/quantised."""
    monkeypatch.setattr("shared.models.weight_files.find_spec", lambda name: None)
    file = folder / part / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": {"quant_method": method}}))
    with pytest.raises(ModelError, match=f"weights in .*{part}: expected .*{line}"):
        load_pipeline(folder)

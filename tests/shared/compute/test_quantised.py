"""Which layers are quantised, and what that saves. What comes out of them: tests/quantised."""

import pytest
import torch
from torch import nn
from transformers import CLIPTextModelWithProjection, Gemma3ForCausalLM, Gemma3TextConfig, T5Config, T5EncoderModel

from shared.compute.quantised import quantise, quantised_layers, saved_bytes
from shared.images.plan import plan_image
from shared.images.recipe import ImageRecipe
from shared.models.image_model import load_image_model
from shared.plan.pipelines import plan_pipeline
from tests.tiny import build_image_folder, tiny_unet

SHORT = {"prompt": "a red cube", "steps": 2}
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "vocab_size": 99}


def test_linear_layers_of_a_unet():
    unet = tiny_unet()
    wanted = {name for name, layer in unet.named_modules() if isinstance(layer, nn.Linear)}
    assert quantised_layers(unet).keys() == wanted
    assert any("attn2" in name for name in wanted)


def test_what_a_network_wants_in_float32_stays():
    found = quantised_layers(T5EncoderModel(T5Config(d_model=32, d_ff=48, d_kv=16, num_heads=2, num_layers=1)))
    assert any(name.endswith(".wi") for name in found)
    assert not any(name.endswith(".wo") for name in found)


def test_so_does_what_makes_words_of_features():
    model = Gemma3ForCausalLM(Gemma3TextConfig(**SMALL, num_hidden_layers=1, num_key_value_heads=1, head_dim=16))
    assert "lm_head" not in quantised_layers(model)
    assert len(quantised_layers(model)) == 7


def test_and_weights_that_are_used_without_their_layer():
    attention = nn.MultiheadAttention(8, 2)  # reads its out_proj.weight itself
    assert not quantised_layers(nn.Sequential(attention))


def test_none_changes_nothing():
    unet = tiny_unet()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    quantise(unet, "none")
    for name, tensor in unet.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "held"), [("none", None), ("int8", 12 * 100 + 4 * 12), ("nf4", 600 + 4 * 19)]
)  # 1200 weights: 12 rows, 19 blocks of at most 64
def test_what_is_saved(kind, held, dtype):
    network = nn.Sequential(nn.Linear(100, 12), nn.Conv2d(3, 3, 3), nn.LayerNorm(12)).to(dtype)
    assert saved_bytes([network], kind) == (0 if held is None else 1200 * dtype.itemsize - held)


@pytest.mark.parametrize("kind", ["int8", "float8", "nf4"])
def test_a_plan_of_the_core_counts_what_is_saved(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("shared.compute.policy.find_spec", lambda name: name)  # it is not needed for a plan
    recipe = ImageRecipe.parse({**SHORT, "model": str(build_image_folder(tmp_path / "model"))})
    model = load_image_model(recipe.model)
    was, now = (plan_image(each) for each in (recipe, recipe.model_copy(update={"quantization": kind})))
    less = saved_bytes([model.unet, *model.encoders], kind)
    assert was.weights - now.weights == less > 0.2 * was.weights
    assert was.activations == now.activations


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_so_does_that_of_a_pipeline(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("shared.compute.policy.find_spec", lambda name: name)
    folder = build_image_folder(tmp_path / "model")
    recipe = ImageRecipe.parse({**SHORT, "model": str(folder), "pipeline_class": "StableDiffusionPipeline"})
    model = load_image_model(folder)
    was, now = (plan_pipeline(each, "cpu") for each in (recipe, recipe.model_copy(update={"quantization": kind})))
    assert was.weights - now.weights == pytest.approx(saved_bytes([model.unet, *model.encoders], kind), abs=2)


def test_the_projection_of_a_text_encoder_is_a_layer_like_others():
    config = CLIPTextModelWithProjection.config_class(**SMALL, num_hidden_layers=1, projection_dim=8)
    assert "text_projection" in quantised_layers(CLIPTextModelWithProjection(config))

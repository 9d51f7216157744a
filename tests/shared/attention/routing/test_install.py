"""Networks of every kind compute through `attend` what they compute without it."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers.models.attention import FreeNoiseTransformerBlock
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0, SanaLinearAttnProcessor2_0
from diffusers.pipelines.free_noise_utils import AnimateDiffFreeNoiseMixin
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from shared.attention import BACKENDS, install_attention, unrouted
from shared.errors import InputError, ModelError
from tests.near import near
from tests.shared.attention.networks import IDS, KINDS, T, clip_text, draw, made

ROOT = Path(__file__).resolve().parents[4]


def same(got, wanted):
    """Rounding passes through a whole network here, so ten times a single operation's."""
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_a_network_gives_what_the_stock_network_gives(name):
    kind = KINDS[name]
    network = made(kind)
    names = list(network.state_dict())
    with torch.no_grad():
        wanted = kind.run(network)
        assert len(unrouted(network)) == install_attention(network) == kind.count
        same(kind.run(network), wanted)
        assert install_attention(network, "chunked") == kind.count  # a second time, and by another kernel
        same(kind.run(network), wanted)
    assert list(network.state_dict()) == names


@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_those_of_the_stock_network(name):
    kind = KINDS[name]
    stock = made(kind)
    ours = copy.deepcopy(stock)
    install_attention(ours)
    for network in (stock, ours):
        out = kind.run(network)
        out.backward(draw(*out.shape, seed=9))
    wanted = {name: weight.grad for name, weight in stock.named_parameters() if weight.grad is not None}
    got = {name: weight.grad for name, weight in ours.named_parameters() if weight.grad is not None}
    assert got.keys() == wanted.keys()
    largest = max(grad.abs().max() for grad in wanted.values())
    for name, grad in wanted.items():  # a key's bias has none: it shifts all scores of a query alike
        assert (got[name] - grad).abs().max() <= 1e-4 * grad.abs().max() + 1e-6 * largest, name


@pytest.mark.parametrize("name", ["unet", "wan", "wan autoencoder", "clip text"])
def test_copies_attend_the_same_way(name):
    kind = KINDS[name]
    network = made(kind)
    install_attention(network)
    with torch.no_grad():
        wanted = kind.run(network)
        for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert not unrouted(twin)
            assert torch.equal(kind.run(twin), wanted)


@pytest.mark.parametrize("name", ["wan", "sd3", "clip text", "unet"])
def test_training_under_autocast_is_as_exact_as_in_the_stock_network(name):
    """Norms give float32 there and projections bfloat16."""
    kind = KINDS[name]
    network = made(kind).train()
    exact = kind.run(network)
    with torch.autocast("cpu", torch.bfloat16):
        stock = kind.run(network)
        install_attention(network)
        ours = kind.run(network)
    assert 0 < (ours - exact).square().mean() < 2 * (stock - exact).square().mean()


def test_a_prompts_early_tokens_do_not_see_later_ones():
    text = made(KINDS["clip text"]).train()
    install_attention(text)
    other = IDS.clone()
    other[:, 5] = 77
    before, after = (text(ids).last_hidden_state for ids in (IDS, other))
    near(after[:, :5], before[:, :5])
    assert not torch.allclose(after[:, 5:], before[:, 5:])


def test_a_stock_encoder_set_to_form_its_scores_is_routed_too():
    text = made(KINDS["clip text"])
    text.set_attn_implementation("eager")
    with torch.no_grad():
        wanted = text(IDS).last_hidden_state
        install_attention(text)
        same(text(IDS).last_hidden_state, wanted)
    text.set_attn_implementation("eager")
    assert len(unrouted(text)) == 2


def test_modules_of_transformers_stay_what_they_are():
    text = made(KINDS["clip text"])
    before = [type(module) for module in text.modules()]
    install_attention(text)
    assert [type(module) for module in text.modules()] == before


def test_a_model_made_from_the_configuration_of_a_routed_one_is_routed_too():
    text = made(KINDS["clip text"])
    install_attention(text)
    other = CLIPTextModel(text.config)
    assert not unrouted(other)
    other(IDS)
    assert [layer.self_attn.route.ran.total() for layer in other.encoder.layers] == [1, 1]


def test_a_model_of_transformers_attends_the_same_way_in_another_process(tmp_path):
    text = made(KINDS["clip text"])
    install_attention(text, "chunked")
    (tmp_path / "text.pickle").write_bytes(pickle.dumps(text))
    program = (
        "import pickle, sys, torch\n"
        "text = pickle.load(open(sys.argv[1], 'rb'))\n"
        "text(torch.zeros(1, 7, dtype=torch.long))\n"
        "print([dict(layer.self_attn.route.ran) for layer in text.encoder.layers])\n"
    )
    run = [sys.executable, "-c", program, str(tmp_path / "text.pickle")]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[{'chunked': 1}, {'chunked': 1}]\n"


def test_what_is_saved_is_a_stock_model(tmp_path):
    text = made(KINDS["clip text"])
    install_attention(text)
    text.save_pretrained(tmp_path)
    assert "attn" not in (tmp_path / "config.json").read_text()
    again = CLIPTextModel.from_pretrained(tmp_path)
    with torch.no_grad():
        same(again(IDS).last_hidden_state, text(IDS).last_hidden_state)


class FreeNoise(AnimateDiffFreeNoiseMixin):
    """What a pipeline brings to diffusers' own function."""

    device, dtype = "cpu", torch.float32
    _free_noise_context_length, _free_noise_context_stride, _free_noise_weighting_scheme = 4, 2, "pyramid"


def test_long_clips_by_free_noise():
    """Its blocks are new ones, with stock attention; they show as unrouted until they are."""
    network = made(KINDS["motion"])
    install_attention(network)
    for block in (*network.down_blocks, network.mid_block, *network.up_blocks):
        FreeNoise()._enable_free_noise_in_block(block)
    assert sum(isinstance(module, FreeNoiseTransformerBlock) for module in network.modules()) == 4
    assert len(unrouted(network)) == 8
    clip, tokens = draw(2, 4, 7, 8, 8), draw(2, 7, 16).repeat_interleave(7, dim=0)
    with torch.no_grad():
        wanted = network(clip, T, encoder_hidden_states=tokens).sample
        install_attention(network)
        assert not unrouted(network)
        same(network(clip, T, encoder_hidden_states=tokens).sample, wanted)


def test_fused_projections():
    kind = KINDS["unet"]
    network = made(kind)
    install_attention(network)
    with torch.no_grad():
        wanted = kind.run(network)
        network.fuse_qkv_projections()
        assert len(unrouted(network)) == kind.count - 1
        install_attention(network)
        same(kind.run(network), wanted)
        network.unfuse_qkv_projections()
        install_attention(network)
        same(kind.run(network), wanted)


def test_an_image_prompt_adapter_keeps_its_weights():
    torch.manual_seed(0)
    processor = IPAdapterAttnProcessor2_0(hidden_size=16, cross_attention_dim=12, num_tokens=(3,), scale=0.6)
    attention = Attention(query_dim=16, cross_attention_dim=12, heads=2, dim_head=8, processor=processor)
    names = list(attention.state_dict())
    inputs = {"encoder_hidden_states": (draw(2, 5, 12, seed=1), [draw(2, 1, 3, 12, seed=2)])}
    wanted = attention(draw(2, 9, 16), **inputs)
    assert install_attention(attention) == 1
    near(attention(draw(2, 9, 16), **inputs), wanted)
    assert attention.route.ran.total() == 2
    assert list(attention.state_dict()) == names


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_uses_the_backend_that_it_was_given(backend):
    kind = KINDS["sd3"]
    network = made(kind)
    install_attention(network, backend)
    if backend in ("flash", "xformers", "temporal"):
        with pytest.raises(InputError, match=backend):
            kind.run(network)
        return
    kind.run(network)
    assert [block.attn.route.ran for block in network.transformer_blocks] == [{backend: 1}] * 2


def test_diffusers_own_switch_is_set_back():
    kind = KINDS["wan"]
    network = made(kind)
    network.set_attention_backend("_native_math")
    install_attention(network)
    assert not unrouted(network)
    network.set_attention_backend("_native_math")
    assert len(unrouted(network)) == kind.count
    network.set_attention_backend("native")


class WithoutSdpa(CLIPTextModel):
    _supports_sdpa = False


def test_a_foreign_kind_of_attention_is_refused_and_nothing_changes():
    linear = made(KINDS["sd3"])
    linear.transformer_blocks[1].attn.set_processor(SanaLinearAttnProcessor2_0())
    eager = WithoutSdpa(CLIPTextConfig.from_dict(clip_text().config.to_dict()))
    for network, match in (
        (linear, "transformer_blocks.1.attn: .*SanaLinearAttnProcessor2_0"),
        (nn.Sequential(made(KINDS["wan"]), nn.MultiheadAttention(8, 2)), "attention 1: .*MultiheadAttention"),
        (nn.Sequential(made(KINDS["unet"]), nn.Softmax(dim=-1)), "attention 1: .*Softmax"),
        (nn.Sequential(made(KINDS["unet"]), eager), "WithoutSdpa"),
    ):
        before = [(type(module), getattr(module, "processor", None)) for module in network.modules()]
        with pytest.raises(ModelError, match=match):
            install_attention(network)
        after = [(type(module), getattr(module, "processor", None)) for module in network.modules()]
        assert all(a is b and p is q for (a, p), (b, q) in zip(before, after, strict=True))


def test_an_unknown_backend_is_refused_and_nothing_changes():
    network = made(KINDS["unet"])
    with pytest.raises(InputError, match="flush"):
        install_attention(network, "flush")
    assert len(unrouted(network)) == 15


def test_attention_that_was_replaced_since_does_not_run_unnoticed():
    kind = KINDS["sd3"]
    network = made(kind)
    install_attention(network)
    network.transformer_blocks[1].attn.set_processor(lambda attn, hidden_states, encoder_hidden_states, **_: None)
    assert [attention.name for attention in unrouted(network)] == ["transformer_blocks.1.attn"]
    with pytest.raises(ModelError, match="install_attention"):
        kind.run(network)

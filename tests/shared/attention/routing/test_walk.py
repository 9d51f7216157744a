"""No attention of a loaded network passes `attend` by: while it runs, every softmax and every attention kernel of torch
is watched, and each attention module must have called `attend`."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
import torch

import shared.attention.routing.route
import video.temporal
from shared.attention import attentions, install_attention, unrouted
from shared.compute.torch_internals import TorchDispatchMode
from shared.models.clip_scorer import ClipScorer
from shared.models.image_model import load_image_model
from shared.models.source import WORLD
from shared.training.clip_scorer import build, save_image_encoder
from shared.training.recipe import ScorerTrainRecipe
from tests.shared.attention.networks import KINDS, draw, made
from tests.tiny import build_image_folder
from video.folder import load_temporal
from video.network import VideoUNet


class Watch(TorchDispatchMode):
    """astray: kernels that form attention weights, run outside `attend`. calls: of `attend`, by attention module."""

    def __init__(self) -> None:
        super().__init__()
        self.astray: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.inside = 0
        self.modules: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        if not self.inside and ("softmax" in name or "attention" in name):
            self.astray[name] += 1
        return func(*args, **(kwargs or {}))

    def entering(self, call):
        def entered(*args, **kwargs):
            self.calls[self.modules[-1]] += 1
            self.inside += 1
            try:
                return call(*args, **kwargs)
            finally:
                self.inside -= 1

        return entered


@contextlib.contextmanager
def watching(monkeypatch, network):
    watch = Watch()
    hooks = []
    for attention in attentions(network):

        def enter(*_, name=attention.name):
            watch.modules.append(name)

        def leave(*_):
            watch.modules.pop()

        hooks += [
            attention.module.register_forward_pre_hook(enter),
            attention.module.register_forward_hook(leave),
        ]
    with monkeypatch.context() as patch, watch, torch.no_grad():
        route = shared.attention.routing.route
        patch.setattr(route, "attend_and_tell", watch.entering(route.attend_and_tell))
        for name in ("attend", "attend_frames"):
            patch.setattr(video.temporal, name, watch.entering(getattr(video.temporal, name)))
        yield watch
    for hook in hooks:
        hook.remove()


def check(monkeypatch, network, run):
    assert not unrouted(network)
    with watching(monkeypatch, network) as watch:
        run(network)
    assert not watch.astray
    assert sorted(watch.calls) == sorted(attention.name for attention in attentions(network))


@pytest.mark.parametrize("name", KINDS)
def test_every_attention_of_a_network_calls_attend(monkeypatch, name):
    kind = KINDS[name]
    network = made(kind)
    found = attentions(network)
    with watching(monkeypatch, network) as watch:
        kind.run(network)
    assert len(found) == len(unrouted(network)) == kind.count
    assert watch.astray.total() >= kind.count  # the watch sees them all
    assert not watch.calls
    install_attention(network)
    check(monkeypatch, network, kind.run)


@pytest.fixture(scope="module")
def world():
    return load_image_model("world")


def test_the_embedded_models_networks_are_loaded_so(monkeypatch, world):
    x, tokens = draw(1, world.codec.latent_channels, 16, 16), world.text.encode(["a red cube"])
    check(monkeypatch, world.unet, lambda unet: unet(x, 500, encoder_hidden_states=tokens))
    check(monkeypatch, world.text.text_encoder, lambda _: world.text.encode(["a red cube"]))
    check(monkeypatch, world.codec.vae, lambda _: world.codec.decode(x))
    assert "add_embedding.pool" in [attention.name for attention in attentions(world.unet)]


def test_the_scores_image_encoder_is_loaded_so(monkeypatch, tmp_path):
    folder = build_image_folder(tmp_path)
    save_image_encoder(folder / "image_encoder", build(ScorerTrainRecipe(), image_size=16, embedding=32))
    encoder = ClipScorer.from_folder(folder).image_encoder
    assert len(attentions(encoder)) == ScorerTrainRecipe().image_layers
    check(monkeypatch, encoder, lambda encoder: encoder(draw(1, 3, 16, 16)))


def test_the_embedded_models_video_network_is_loaded_so(monkeypatch, world):
    network = VideoUNet(world.unet, load_temporal(WORLD))
    x, tokens = draw(1, world.codec.latent_channels, 4, 16, 16), world.text.encode(["a red cube"])
    assert len(attentions(network)) > len(attentions(world.unet))
    check(monkeypatch, network, lambda video: video(x, 500, tokens))


def test_what_is_told_of_an_attention():
    network = made(KINDS["sd3"])
    install_attention(network.transformer_blocks[0])
    told = [(attention.name, attention.kind, attention.way, attention.routed) for attention in attentions(network)]
    assert told == [
        ("transformer_blocks.0.attn", "JointAttnProcessor2_0", "torch", True),
        ("transformer_blocks.0.attn2", "JointAttnProcessor2_0", "torch", True),
        ("transformer_blocks.1.attn", "JointAttnProcessor2_0", "torch", False),
    ]
    assert [attention.name for attention in unrouted(network)] == ["transformer_blocks.1.attn"]

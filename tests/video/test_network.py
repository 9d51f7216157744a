"""The temporal layers of a video network: what they add, save and refuse. See test_insertion for how they stand."""

import json

import pytest
import torch

from shared.errors import InputError, ModelError
from shared.rng import generator
from tests.near import near
from tests.tiny import tiny_unet
from tests.video.unets import SD1, UNETS, inputs, video
from video.clip_network import FramesAlone
from video.frames.windows import even_moments
from video.network import TemporalLayers, VideoUNet


def test_every_gate_is_alive_in_a_new_network_and_every_weight_once_gates_are_open():
    x, t, tokens = inputs()
    network = video(tiny_unet(**UNETS["stable diffusion 1"]))
    network(x, t, tokens).square().sum().backward()
    gates = {n: p.grad for n, p in network.temporal.named_parameters() if n.endswith("gate")}
    assert len(gates) == sum(2 + (block.space_time is not None) for block in network.temporal.blocks)
    assert all(grad.abs() > 0 for grad in gates.values()), gates
    assert all(p.grad is None for p in network.unet.parameters())

    network = video(tiny_unet(**UNETS["stable diffusion 1"]), gate=0.1)
    network(x, t, tokens).square().sum().backward()
    dead = [n for n, p in network.temporal.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@torch.no_grad()
def test_open_gates_let_frames_see_each_other_and_clips_not():
    x, t, tokens = inputs(frames=4)
    network = video(tiny_unet(), gate=0.3)
    out = network(x, t, tokens)
    changed = x.clone()
    changed[0, :, 0] += 1
    moved = (network(changed, t, tokens) - out).abs().amax(dim=(1, 3, 4))  # b t
    assert (moved[0] > 1e-4).all()  # all frames of the clip, the last included
    assert (moved[1] < 1e-5).all()


@torch.no_grad()
def test_the_prompt_reaches_temporal_layers_where_the_unet_has_no_cross_attention():
    network = video(tiny_unet(**UNETS["stable diffusion 1"]))
    e = network.temporal.embedding
    time, tokens = torch.zeros(1, e.time.in_features), torch.randn(2, 6, 32)
    when = torch.arange(4.0)
    assert (e(time, tokens[:1], when) - e(time, tokens[1:], when)).abs().max() > 1e-3


@torch.no_grad()
def test_frames_are_a_whole_clip_unless_moments_say_which_part_they_are():
    x, t, tokens = inputs(frames=4)
    network = video(tiny_unet(), gate=0.3)
    whole = network(x, t, tokens)
    assert torch.equal(network(x, t, tokens, torch.tensor([0.0, 1 / 3, 2 / 3, 1.0], dtype=torch.double)), whole)
    assert (network(x, t, tokens, torch.linspace(0, 0.2, 4)) - whole).abs().max() > 1e-3


@torch.no_grad()
def test_frames_may_have_a_prompt_each_for_the_image_networks_own_layers():
    x, t, tokens = inputs(frames=4)
    each = torch.randn(len(x), 4, *tokens.shape[1:], generator=generator(7))
    alone, closed, opened = FramesAlone(tiny_unet()), video(tiny_unet()), video(tiny_unet(), gate=0.3)
    for network in (alone, closed):  # and no others know of each other
        seen = network(x, t, tokens, frame_text=each)
        for frame in range(4):
            one = network(x[:, :, frame : frame + 1], t, each[:, frame])
            near(seen[:, :, frame : frame + 1], one)
    same = tokens[:, None].expand_as(each)
    assert torch.equal(opened(x, t, tokens, frame_text=same), opened(x, t, tokens))
    assert (opened(x, t, tokens, frame_text=each) - opened(x, t, each[:, 0], frame_text=each)).abs().max() > 1e-4


def test_moments_are_counted_in_frames_of_the_clips_trained_on():
    for frames in (16, 24):
        layers = TemporalLayers.for_unet(tiny_unet(), embed_dim=32, frames=frames)
        assert torch.equal(layers.when(even_moments(frames), torch.device("cpu")), torch.arange(float(frames)))
    assert layers.when(torch.tensor([0.5]), torch.device("cpu")).tolist() == [11.5]


@torch.no_grad()
def test_more_frames_than_trained_on_run():
    x, t, tokens = inputs(frames=40)
    out = video(tiny_unet(**UNETS["attention below only"]), gate=0.2)(x, t, tokens)
    assert out.shape == x.shape
    assert out.isfinite().all()


def test_saved_temporal_layers_come_back(tmp_path):
    temporal = video(tiny_unet(), gate=0.3).temporal
    temporal.save_pretrained(tmp_path)
    again, info = TemporalLayers.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert dict(again.config)["channels"] == [32] * 8
    for name, tensor in temporal.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert all(alpha == pytest.approx(0.7) for alpha in again.alphas().values())


@pytest.mark.parametrize(
    ("config", "levels", "places"),
    [
        ({}, 0, "--------"),  # two levels, one resnet each downwards, two in the middle and upwards
        ({}, 1, "-*****--"),
        (UNETS["three levels"], 2, "-*" + "*" * 7 + "--"),
        (UNETS["three levels"], 9, "*" * 11),
        (SD1, 1, "--*******---"),
    ],
)
def test_space_and_time_are_attended_to_together_on_the_lowest_levels(config, levels, places):
    unet = tiny_unet(**config)
    layers = TemporalLayers.for_unet(unet, embed_dim=32, space_time_levels=levels)
    assert "".join("-" if block.space_time is None else "*" for block in layers.blocks) == places


def test_layers_from_before_have_none(tmp_path):
    TemporalLayers.for_unet(tiny_unet(), embed_dim=32).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["space_time"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = TemporalLayers.from_pretrained(tmp_path)
    assert all(block.space_time is None for block in again.blocks)


def test_what_layers_cannot_stand_in_is_refused_by_name():
    with pytest.raises(InputError, match=r"class_embed_type.*timestep"):
        TemporalLayers.for_unet(tiny_unet(class_embed_type="timestep"))
    widths = {"cross_attention_dim": (32, 16), "transformer_layers_per_block": 1}
    with pytest.raises(InputError, match="one cross_attention_dim"):
        TemporalLayers.for_unet(tiny_unet(**widths))
    with pytest.raises(InputError, match=r"addition_embed_type.*text_time.*got image"):
        TemporalLayers.for_unet(tiny_unet(addition_embed_type="image", encoder_hid_dim=8))
    without = tiny_unet()
    del without.down_blocks[0].resnets
    with pytest.raises(InputError, match="blocks with resnets, got CrossAttnDownBlock2D"):
        TemporalLayers.for_unet(without)


def test_layers_of_another_network_are_refused():
    other = TemporalLayers.for_unet(tiny_unet(**SD1))
    with pytest.raises(ModelError, match="do not fit"):
        VideoUNet(tiny_unet(), other)

"""The video network against diffusers' own UNet, frame by frame, and what its temporal layers add."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from einops import rearrange

from shared.errors import InputError, ModelError
from tests.tiny import tiny_unet
from video.network import TemporalLayers, VideoUNet
from video.windows import even_moments

LEGACY = {
    "block_out_channels": (16, 32),
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": 2,
}
UNETS = {
    "attention everywhere": {},
    "stable diffusion 1": LEGACY,
    "attention below only": {
        **LEGACY,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "use_linear_projection": True,
    },
    "prompt in the noise level": {"addition_embed_type": "text", "addition_embed_type_num_heads": 4},
    "three levels": {
        **LEGACY,
        "block_out_channels": (16, 16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "center_input_sample": True,
    },
}


def video(unet: UNet2DConditionModel, gate: float | None = None, **options) -> VideoUNet:
    temporal = TemporalLayers.for_unet(unet, embed_dim=32, head_dim=16)
    if gate is not None:
        for name, parameter in temporal.named_parameters():
            if name.endswith("gate"):
                parameter.data.fill_(gate)
    return VideoUNet(unet.requires_grad_(False), temporal, **options).eval()


def inputs(size=(16, 16), frames=3, text=32):
    torch.manual_seed(7)
    return torch.randn(2, 4, frames, *size), torch.tensor([20, 900]), torch.randn(2, 6, text)


@torch.no_grad()
@pytest.mark.parametrize("config", UNETS.values(), ids=UNETS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_new_video_network_is_the_image_network_bit_for_bit(config, memory_format):
    unet = tiny_unet(**config).to(memory_format=memory_format)
    x, t, tokens = inputs()
    out = video(unet)(x, t, tokens)
    frames = unet(
        rearrange(x, "b c t h w -> (b t) c h w"),
        t.repeat_interleave(3),
        encoder_hidden_states=tokens.repeat_interleave(3, dim=0),
    ).sample
    assert torch.equal(out, rearrange(frames, "(b t) c h w -> b c t h w", t=3))


@torch.no_grad()
def test_sizes_that_strides_do_not_divide_follow_diffusers_too():
    unet = tiny_unet(**UNETS["three levels"])
    x, t, tokens = inputs(size=(9, 14))
    frames = unet(x[:, :, 0], t, encoder_hidden_states=tokens).sample
    assert torch.equal(video(unet)(x[:, :, :1], t, tokens)[:, :, 0], frames)


def test_every_gate_is_alive_in_a_new_network_and_every_weight_once_gates_are_open():
    x, t, tokens = inputs()
    network = video(tiny_unet(**UNETS["stable diffusion 1"]))
    network(x, t, tokens).square().sum().backward()
    gates = {n: p.grad for n, p in network.temporal.named_parameters() if n.endswith("gate")}
    assert len(gates) == 2 * len(network.temporal.blocks)
    assert all(grad.abs() > 0 for grad in gates.values()), gates
    assert all(p.grad is None for p in network.unet.parameters())

    network = video(tiny_unet(**UNETS["stable diffusion 1"]), gate=0.1)
    network(x, t, tokens).square().sum().backward()
    dead = [n for n, p in network.temporal.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize("config", ["stable diffusion 1", "prompt in the noise level"])
def test_checkpointing_keeps_less_and_gives_the_same_loss_and_gradients(config):
    x, t, tokens = inputs()
    losses, gradients, kept = [], [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = video(tiny_unet(**UNETS[config]), gate=0.1, checkpointing=checkpointing)
        held = 0

        def count(tensor):
            nonlocal held
            held += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = network(x, t, tokens).square().mean()
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: p.grad for name, p in network.temporal.named_parameters()})
        kept.append(held)
    assert torch.equal(*losses)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
    assert kept[1] < kept[0] / 3


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


def test_unknown_blocks_are_refused_by_name():
    unet = tiny_unet(down_block_types=("AttnDownBlock2D", "CrossAttnDownBlock2D"))
    with pytest.raises(InputError, match="AttnDownBlock2D"):
        TemporalLayers.for_unet(unet)
    with pytest.raises(InputError, match="addition_embed_type"):
        TemporalLayers.for_unet(
            tiny_unet(
                addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=8
            )
        )
    with pytest.raises(InputError, match="class_embed_type"):
        TemporalLayers.for_unet(tiny_unet(class_embed_type="timestep"))


def test_layers_of_another_network_are_refused():
    other = TemporalLayers.for_unet(tiny_unet(**LEGACY))
    with pytest.raises(ModelError, match="do not fit"):
        VideoUNet(tiny_unet(), other)

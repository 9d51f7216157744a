"""Temporal layers inserted by hooks: against diffusers' own UNet, the pass written out, and under its features."""

import copy

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from diffusers.hooks import apply_group_offloading
from einops import rearrange

from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.schedule import NoiseSchedule
from shared.errors import ModelError
from tests.tiny import tiny_unet
from tests.video import reference_unet
from tests.video.unets import OTHERS, SDXL, UNETS, added, inputs, video

FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])


def of_image(unet, x, t, tokens, told):
    """The image network's prediction for every frame, by itself."""
    frames = x.shape[2]
    repeated = {name: value.repeat_interleave(frames, dim=0) for name, value in told.items()}
    images = unet(
        rearrange(x, "b c t h w -> (b t) c h w"),
        t.repeat_interleave(frames),
        encoder_hidden_states=tokens.repeat_interleave(frames, dim=0),
        added_cond_kwargs=repeated or None,
    ).sample
    return rearrange(images, "(b t) c h w -> b c t h w", t=frames)


@torch.no_grad()
@FORMATS
@pytest.mark.parametrize("config", {**UNETS, **OTHERS}.values(), ids={**UNETS, **OTHERS})
def test_new_video_network_is_the_image_network_bit_for_bit(config, memory_format):
    unet, told = tiny_unet(**config).to(memory_format=memory_format), added(config)
    alone = of_image(unet, *inputs(), told)
    network = video(unet)
    assert torch.equal(network(*inputs(), added_cond_kwargs=told), alone)
    assert torch.equal(of_image(unet, *inputs(), told), alone)  # which it still is, for others


@torch.no_grad()
@FORMATS
@pytest.mark.parametrize("config", UNETS.values(), ids=UNETS)
def test_hooks_do_what_the_pass_written_out_does_bit_for_bit(config, memory_format):
    network = video(tiny_unet(**config).to(memory_format=memory_format), gate=0.3)
    x, t, tokens = inputs()
    told = added(config)
    out = network(x, t, tokens, added_cond_kwargs=told)
    assert torch.equal(out, reference_unet.forward(network, x, t, tokens, told))
    assert (out - of_image(network.unet, x, t, tokens, told)).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("config", OTHERS.values(), ids=OTHERS)
def test_open_gates_count_in_other_blocks_too(config):
    unet = tiny_unet(**config)
    assert (video(unet, gate=0.3)(*inputs()) - of_image(unet, *inputs(), {})).abs().max() > 1e-3


@torch.no_grad()
def test_sizes_that_strides_do_not_divide_follow_diffusers_too():
    unet = tiny_unet(**UNETS["three levels"])
    x, t, tokens = inputs(size=(9, 14))
    assert torch.equal(video(unet)(x, t, tokens), of_image(unet, x, t, tokens, {}))


@torch.no_grad()
def test_the_image_network_is_itself_after_a_pass_that_failed_and_after_the_video_network():
    unet = tiny_unet()
    x, t, tokens = inputs()
    alone = of_image(unet, x, t, tokens, {})
    network = video(unet, gate=0.3)
    with pytest.raises(RuntimeError):
        network(x, t, torch.zeros(2, 6, 31))
    assert torch.equal(of_image(unet, x, t, tokens, {}), alone)
    hooked = [module for module in unet.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert hooked
    assert not [name for name in unet.state_dict() if "temporal" in name]
    del network
    assert not [module for module in hooked if module._forward_hooks or module._forward_pre_hooks]


@torch.no_grad()
def test_two_video_networks_share_an_image_network():
    unet = tiny_unet()
    one, other = video(unet, gate=0.3), video(unet, gate=-0.2)
    alone = video(tiny_unet(), gate=0.3)
    alone.temporal.load_state_dict(one.temporal.state_dict())
    assert torch.equal(one(*inputs()), alone(*inputs()))
    assert not torch.equal(one(*inputs()), other(*inputs()))


@torch.no_grad()
def test_a_copy_has_layers_of_its_own():
    network = video(tiny_unet(), gate=0.3)
    out, again = network(*inputs()), copy.deepcopy(network)
    assert torch.equal(again(*inputs()), out)
    for name, parameter in again.temporal.named_parameters():
        if name.endswith("gate"):
            parameter.zero_()
    assert torch.equal(again(*inputs()), of_image(again.unet, *inputs(), {}))
    assert torch.equal(network(*inputs()), out)


@pytest.mark.parametrize("config", ["stable diffusion 1", "prompt in the noise level", "sdxl"])
@pytest.mark.parametrize("by", ["the video network", "the image network"])
def test_checkpointing_keeps_less_and_gives_the_same_loss_and_gradients(config, by):
    x, t, tokens = inputs()
    told = added(UNETS[config])
    losses, gradients, kept = [], [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        unet = tiny_unet(**UNETS[config])
        network = video(unet, gate=0.1, checkpointing=checkpointing and by == "the video network")
        if checkpointing and by == "the image network":
            unet.enable_gradient_checkpointing()
        held = 0

        def count(tensor):
            nonlocal held
            held += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = network(x, t, tokens, added_cond_kwargs=told).square().mean()
        network(x + 1, t, tokens, added_cond_kwargs=told)  # another pass, before this one goes back
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: p.grad for name, p in network.temporal.named_parameters()})
        kept.append(held)
    assert torch.equal(*losses)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
    assert kept[1] < kept[0] / 3


class Counts(ModelHook):
    def __init__(self):
        self.calls = 0

    def pre_forward(self, module, *args, **kwargs):
        self.calls += 1
        return args, kwargs


@torch.no_grad()
def test_every_hook_of_every_part_fires():
    network = video(tiny_unet(**SDXL), gate=0.3)
    told = added(SDXL)
    out = network(*inputs(), added_cond_kwargs=told)
    parts = {"unet": network.unet, "temporal": network.temporal}
    for name, module in network.named_modules():
        if list(module.parameters(recurse=False)):
            parts[name] = module
    parts |= {f"temporal.blocks.{index}": block for index, block in enumerate(network.temporal.blocks)}
    counts = {name: Counts() for name in parts}
    for name, module in parts.items():
        add_hook_to_module(module, counts[name])
    assert torch.equal(network(*inputs(), added_cond_kwargs=told), out)
    assert not [name for name, count in counts.items() if not count.calls]
    assert len(counts) > 200
    for module in parts.values():
        remove_hook_from_module(module)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["leaf_level", "block_level"])
def test_groups_of_layers_are_offloaded(kind):
    network = video(tiny_unet(), gate=0.3)
    out = network(*inputs())
    options = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    for part in (network.unet, network.temporal):
        apply_group_offloading(part, onload_device=torch.device("cpu"), offload_type=kind, **options)
    assert torch.equal(network(*inputs()), out)


@torch.no_grad()
def test_freeu_reaches_clips_as_it_reaches_pictures():
    unet = tiny_unet(**UNETS["three levels"])
    plain = video(unet)(*inputs())
    unet.enable_freeu(s1=0.9, s2=0.2, b1=1.4, b2=1.6)
    freed = of_image(unet, *inputs(), {})
    assert (freed - plain).abs().max() > 1e-3
    assert torch.equal(video(unet)(*inputs()), freed)
    unet.disable_freeu()
    assert torch.equal(video(unet)(*inputs()), plain)


@torch.no_grad()
def test_weights_may_be_stored_in_eight_bits():
    unet = tiny_unet(**UNETS["stable diffusion 1"])
    unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert unet.down_blocks[0].resnets[0].conv1.weight.dtype == torch.float8_e4m3fn
    x, t, tokens = inputs()
    assert torch.equal(video(unet)(x, t, tokens), of_image(unet, x, t, tokens, {}))
    schedule = NoiseSchedule(torch.linspace(0.999, 0.01, 1000))
    told = Denoiser(video(unet, gate=0.3), schedule, "epsilon")(x, t, Conditioning(tokens))
    assert told.eps.isfinite().all()


@pytest.mark.parametrize("config", UNETS.values(), ids=UNETS)
def test_half_precision_prompts_under_autocast(config):
    """As a training has them: the text encoder ran under autocast, the UNet's weights are single precision."""
    network = video(tiny_unet(**config), gate=0.1)
    x, t, tokens = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        out = network(x, t, tokens.bfloat16(), added_cond_kwargs=added(config))
    out.float().square().mean().backward()
    exact = network(x, t, tokens, added_cond_kwargs=added(config))
    assert (out - exact).norm() < 0.05 * exact.norm()


@torch.no_grad()
def test_a_denoiser_tells_an_sdxl_shaped_network_sizes_and_pooled_text():
    unet = tiny_unet(**SDXL)
    told, (x, t, tokens) = added(SDXL), inputs()
    denoiser = Denoiser(video(unet), NoiseSchedule(torch.linspace(0.999, 0.01, 1000)), "epsilon")
    conditioning = Conditioning(tokens, pooled=told["text_embeds"], added={"time_ids": told["time_ids"]})
    assert torch.equal(denoiser(x, t, conditioning).eps, of_image(unet, x, t, tokens, told))
    with pytest.raises(ModelError, match="text_embeds, time_ids"):
        denoiser(x, t, Conditioning(tokens))

import copy

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnAddedKVProcessor2_0, AttnProcessor2_0

from shared.attention import install_attention
from tests.tiny import tiny_unet


def attentions(network):
    return [module for module in network.modules() if isinstance(module, Attention)]


def same(got, wanted):
    """Rounding passes through a whole network here, so ten times a single operation's."""
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, text = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 7, 32, generator=generator)
    return x, torch.tensor([3, 900]), text


@pytest.mark.parametrize("backend", ["reference", "eager", "sdpa", "chunked", "auto"])  # which run anywhere
@pytest.mark.parametrize("changes", [{}, {"upcast_attention": True}, {"attention_head_dim": 1}])
def test_a_unet_computes_the_same_through_attend(backend, changes):
    unet = tiny_unet(**changes)
    x, t, text = inputs()
    keep = torch.ones(2, 7, dtype=torch.bool)
    keep[1, 4:] = False
    for mask in (None, keep):
        unet.set_attn_processor(AttnProcessor2_0())
        with torch.no_grad():
            wanted = unet(x, t, encoder_hidden_states=text, encoder_attention_mask=mask).sample
        count = install_attention(unet, backend)
        with torch.no_grad():
            same(unet(x, t, encoder_hidden_states=text, encoder_attention_mask=mask).sample, wanted)
        ran = [sum(module.processor.ran.values()) for module in attentions(unet)]
        assert ran == [1] * count == [1] * len(attentions(unet))
        if backend != "auto":
            assert all(module.processor.ran == {backend: 1} for module in attentions(unet))


def test_gradients_are_the_same():
    unet = tiny_unet()
    ours = copy.deepcopy(unet)
    unet.set_attn_processor(AttnProcessor2_0())
    install_attention(ours)
    x, t, text = inputs()
    for network in (unet, ours):
        network(x, t, encoder_hidden_states=text).sample.square().mean().backward()
    for (name, a), (_, b) in zip(unet.named_parameters(), ours.named_parameters(), strict=True):
        assert (a.grad - b.grad).abs().max() <= 1e-5 * a.grad.abs().max() + 1e-7, name


def test_an_autoencoders_attention_on_pictures():
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).eval()
    image = torch.rand(2, 3, 12, 16)
    with torch.no_grad():
        wanted = vae.decode(vae.encode(image).latent_dist.mean).sample
        assert install_attention(vae) == len(attentions(vae)) == 2
        same(vae.decode(vae.encode(image).latent_dist.mean).sample, wanted)


def test_added_keys_as_in_pixel_diffusion_networks():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 16),
        norm_num_groups=4,
        cross_attention_dim=24,
        layers_per_block=1,
        attention_head_dim=8,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        encoder_hid_dim=32,
        only_cross_attention=False,
    ).eval()
    x, t, text = inputs()
    keep = torch.ones(2, 7, dtype=torch.bool)
    keep[1, 4:] = False
    for mask in (None, keep):
        unet.set_attn_processor(AttnAddedKVProcessor2_0())
        with torch.no_grad():
            wanted = unet(x[..., :8, :8], t, encoder_hidden_states=text, encoder_attention_mask=mask).sample
            count = install_attention(unet)
            same(unet(x[..., :8, :8], t, encoder_hidden_states=text, encoder_attention_mask=mask).sample, wanted)
        assert [sum(module.processor.ran.values()) for module in attentions(unet)] == [1] * count


@pytest.mark.parametrize("backend", ["eager", "sdpa", "chunked"])
def test_neighbours_that_share_a_prompt_project_it_once(backend):
    unet = tiny_unet()
    install_attention(unet, backend)
    x, t, text = torch.randn(6, 4, 16, 16), torch.tensor([3, 3, 3, 900, 900, 900]), torch.randn(2, 7, 32)
    attn = next(module for module in attentions(unet) if module.is_cross_attention)
    projected = []
    attn.to_k.register_forward_hook(lambda module, args, output: projected.append(len(output)))
    with torch.no_grad():
        wanted = unet(x, t, encoder_hidden_states=text.repeat_interleave(3, dim=0)).sample
        same(unet(x, t, encoder_hidden_states=text).sample, wanted)
    assert projected == [6, 2]

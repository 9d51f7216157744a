"""A conditioning's operations part by part, and what networks are told of it."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from shared.diffusion.conditioning import NOTHING, Conditioning, stack
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.schedule import NoiseSchedule
from shared.errors import InputError, ModelError
from tests.tiny import tiny_scheduler, tiny_unet

SCHEDULE = NoiseSchedule.from_scheduler(tiny_scheduler())


def whole(batch=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Conditioning(
        text=torch.randn(batch, 3, 8, generator=draw),
        pooled=torch.randn(batch, 5, generator=draw),
        added={"time_ids": torch.randint(100, (batch, 6), generator=draw)},
        labels=torch.randint(100, (batch,), generator=draw),
        beside=torch.randn(batch, 2, 7, 4, 4, generator=draw),
        frames={"moments": torch.rand(batch, 7, generator=draw)},
    )


def tensors(said):
    return [said.text, said.pooled, said.added["time_ids"], said.labels, said.beside, said.frames["moments"]]


def test_every_operation_is_that_of_every_part():
    a, b = whole(), whole(3, seed=1)
    for got, first, second in zip(tensors(stack([a, b])), tensors(a), tensors(b), strict=True):
        assert torch.equal(got, torch.cat([first, second]))
    for got, part in zip(tensors(b[1:3]), tensors(b), strict=True):
        assert torch.equal(got, part[1:3])
    one = b[0:1]
    for got, part in zip(tensors(one.expand(4)), tensors(one), strict=True):
        assert torch.equal(got, torch.cat([part] * 4))
    assert all(part.device.type == "meta" for part in tensors(a.to("meta")))
    assert (a.batch, b.batch, NOTHING.batch) == (2, 3, None)
    assert a.parts == {"text", "pooled", "time_ids", "labels", "beside", "moments"}
    assert a.expand(2) is a
    assert NOTHING.expand(5) is NOTHING


def test_frames_are_taken_out_of_what_has_frames():
    a = whole()
    part = a.frames_of(slice(2, 5))
    assert torch.equal(part.frames["moments"], a.frames["moments"][:, 2:5])
    assert torch.equal(part.beside, a.beside[:, :, 2:5])
    assert part.text is a.text
    picture = Conditioning(beside=torch.zeros(1, 2, 4, 4)).frames_of(slice(0, 1))
    assert picture.beside.shape == (1, 2, 4, 4)
    assert torch.equal(a.with_frames(known=torch.ones(2, 7)).frames["moments"], a.frames["moments"])


def test_what_does_not_go_together_is_refused():
    with pytest.raises(InputError, match="all of one batch"):
        Conditioning(text=torch.zeros(2, 3, 8), added={"time_ids": torch.zeros(1, 6)})
    with pytest.raises(InputError, match="the same parts in each"):
        stack([whole(), Conditioning(text=torch.zeros(2, 3, 8))])
    with pytest.raises(InputError, match="one for each of 5 samples"):
        whole().expand(5)


def sdxl_shaped():
    return tiny_unet(
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=5 + 6 * 8
    )


@torch.no_grad()
def test_a_network_of_two_text_encoders_gets_its_pooled_text_and_sizes():
    unet = sdxl_shaped()
    x, t, said = torch.randn(2, 4, 8, 8), torch.tensor([5, 500]), whole()
    said = Conditioning(torch.randn(2, 3, 32), said.pooled, said.added)
    wanted = unet(
        x, t, encoder_hidden_states=said.text, added_cond_kwargs={"text_embeds": said.pooled, **said.added}
    ).sample
    assert torch.equal(Denoiser(unet, SCHEDULE, "v_prediction")(x, t, said).v, wanted)


@torch.no_grad()
def test_latents_and_masks_lie_beside_the_channels():
    unet = tiny_unet(in_channels=9)
    x, t, text, beside = torch.randn(2, 4, 8, 8), torch.tensor([5, 500]), torch.randn(2, 3, 32), torch.randn(2, 5, 8, 8)
    wanted = unet(torch.cat([x, beside], 1), t, encoder_hidden_states=text).sample
    assert torch.equal(Denoiser(unet, SCHEDULE, "v_prediction")(x, t, Conditioning(text, beside=beside)).v, wanted)


def labelled():
    return tiny_unet(num_class_embeds=100)


@torch.no_grad()
def test_a_network_of_classes_gets_each_sample_s():
    unet, labels = labelled(), torch.tensor([7, 30])
    x, t, text = torch.randn(2, 4, 8, 8), torch.tensor([5, 500]), torch.randn(2, 3, 32)
    wanted = unet(x, t, encoder_hidden_states=text, class_labels=labels).sample
    assert torch.equal(Denoiser(unet, SCHEDULE, "v_prediction")(x, t, Conditioning(text, labels=labels)).v, wanted)


@torch.no_grad()
@pytest.mark.parametrize(
    ("unet", "said", "message"),
    [
        (sdxl_shaped, Conditioning(torch.zeros(2, 3, 32)), "expected text_embeds, time_ids, got none"),
        (tiny_unet, Conditioning(torch.zeros(2, 3, 32), pooled=torch.zeros(2, 5)), "expected none, got text_embeds"),
        (tiny_unet, Conditioning(torch.zeros(2, 3, 32), frames={"moments": torch.zeros(2, 4)}), "got moments"),
        (labelled, Conditioning(torch.zeros(2, 3, 32)), "class labels: expected one a sample, got none"),
        (tiny_unet, Conditioning(torch.zeros(2, 3, 32), labels=torch.tensor([1, 2])), "expected none, got some"),
        (tiny_unet, Conditioning(torch.zeros(2, 3, 32), beside=torch.zeros(2, 5, 8, 8)), "expected 4, got 9"),
    ],
)
def test_what_a_network_lacks_or_does_not_know_is_said(unet, said, message):
    network: UNet2DConditionModel = unet()
    with pytest.raises(ModelError, match=message):
        Denoiser(network, SCHEDULE, "v_prediction")(torch.zeros(2, 4, 8, 8), torch.tensor([5, 500]), said)

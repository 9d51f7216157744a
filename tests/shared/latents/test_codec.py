import pytest
import torch
from diffusers import AutoencoderKL
from einops import rearrange

from shared.errors import InputError
from shared.latents.codec import Codec
from tests.near import near
from tests.tiny import tiny_temporal_vae, tiny_vae

EIGHT_BITS = 2 / 255  # one step of an eight-bit picture, in pixels of [-1, 1]


def tiny_kl(**changes):
    torch.manual_seed(0)
    config = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "scaling_factor": 0.3,
        "shift_factor": 0.1,
    }
    return AutoencoderKL(**{**config, **changes}).eval()


def pixels(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_scale_and_the_shift_are_those_of_the_config():
    vae, image = tiny_kl(), pixels(2, 3, 16, 24)
    codec = Codec(vae)
    with torch.no_grad():
        latents = codec.encode(image)
        near(latents, (vae.encode(image).latent_dist.mean - 0.1) * 0.3)
        near(codec.decode(latents), vae.decode(latents / 0.3 + 0.1).sample.clamp(-1, 1))
    assert (codec.factor, codec.latent_channels) == (2, 4)


def test_a_tiny_autoencoder_too():
    vae, image = tiny_vae(), pixels(2, 3, 32, 16)
    codec = Codec(vae)
    with torch.no_grad():
        latents = codec.encode(image)
        near(latents, 0.7 * vae.encode(image).latents)
        near(codec.decode(latents), vae.decode(latents / 0.7).sample.clamp(-1, 1))
    assert codec.factor == 4
    assert latents.shape == (2, 4, 8, 4)


def test_frames_are_images_one_by_one():
    codec, clip = Codec(tiny_vae(), slice_size=2), pixels(2, 3, 5, 16, 16)
    with torch.no_grad():
        latents = codec.encode(clip)
        for t in range(5):
            near(latents[:, :, t], codec.encode(clip[:, :, t]))
        decoded = codec.decode(latents)
        for t in range(5):
            near(decoded[:, :, t], codec.decode(latents[:, :, t]))
    assert decoded.shape == clip.shape


def test_slices_change_nothing():
    vae, images = tiny_vae(), pixels(5, 3, 16, 16)
    with torch.no_grad():
        one, two, all_ = (Codec(vae, slice_size=size).encode(images) for size in (1, 2, 16))
    near(one, all_)
    near(two, all_)


def test_tiles_leave_no_seam():
    codec = Codec(tiny_vae())
    coarse = pixels(1, 3, 8, 8)
    image = torch.nn.functional.interpolate(coarse, size=(352, 256), mode="bicubic").clamp(-1, 1)
    with torch.no_grad():
        latents = codec.encode(image)  # 88 by 64
        whole, tiled = codec.decode(latents), Codec(codec.vae, tile_size=40).decode(latents)
    assert whole.shape == tiled.shape == image.shape
    assert whole.std() > 0.1
    assert (whole - tiled).abs().max() < EIGHT_BITS
    assert not torch.equal(whole, tiled)  # it did go by tiles


@pytest.mark.parametrize("attention", [True, False])
def test_tiles_leave_no_seam_where_norms_and_attention_see_the_whole_picture(attention):
    codec = Codec(tiny_kl(layers_per_block=1, mid_block_add_attention=attention))
    image = torch.nn.functional.interpolate(pixels(1, 3, 4, 3), size=(96, 40), mode="bicubic").clamp(-1, 1)
    image[..., 60:80, 10:30] = torch.tensor([1.0, -1.0, 0.5])[:, None, None]  # one tile differs much from the other
    with torch.no_grad():
        latents = codec.encode(image)  # 48 by 20
        whole, tiled = codec.decode(latents), Codec(codec.vae, tile_size=32).decode(latents)
    assert whole.std() > 0.05
    assert (whole - tiled).abs().max() < EIGHT_BITS
    assert not torch.equal(whole, tiled)


def clip_latents(codec, *, frames=5, height=96, width=48):
    """Latents of a clip in which a bright square crosses a picture that changes."""
    clip = torch.nn.functional.interpolate(pixels(1, 3, 3, 4, 3), size=(frames, height, width), mode="trilinear")
    for frame in range(frames):
        clip[:, :, frame, 10 * frame : 10 * frame + 12, 5 * frame : 5 * frame + 15] = 1.0
    return codec.encode(clip.clamp(-1, 1))


@torch.no_grad()
def test_a_decoder_that_looks_across_frames_gets_all_of_a_clip():
    vae = tiny_temporal_vae()
    codec, other = Codec(vae, slice_size=2), Codec(tiny_vae())
    assert codec.sees_frames
    assert not other.sees_frames
    latents = torch.cat([clip_latents(codec, height=16, width=16) for _ in range(2)])
    latents[1] *= -1
    for clip, decoded in zip(latents, codec.decode(latents), strict=True):
        by_hand = vae.decode(rearrange(clip, "c t h w -> t c h w") / 0.3, num_frames=5).sample.clamp(-1, 1)
        near(decoded, rearrange(by_hand, "t c h w -> c t h w"))
    alone = codec.decode(latents[:, :, 2])  # a picture is a clip of one frame
    near(alone, codec.decode(latents[:, :, 2:3])[:, :, 0])
    assert (alone - codec.decode(latents)[:, :, 2]).abs().max() > 0.05  # it does look


@torch.no_grad()
def test_tiles_of_a_clip_leave_no_seam_where_norms_see_all_of_its_frames():
    codec = Codec(tiny_temporal_vae())
    latents = clip_latents(codec)  # 48 by 24
    whole, tiled = codec.decode(latents), Codec(codec.vae, tile_size=32).decode(latents)
    assert whole.std() > 0.05
    assert (whole - tiled).abs().max() < EIGHT_BITS
    assert not torch.equal(whole, tiled)


def test_encode_and_decode_are_differentiable():
    codec = Codec(tiny_kl(), tile_size=20)
    image = pixels(1, 3, 4, 4).requires_grad_()
    codec.encode(image).sum().backward()
    assert image.grad.abs().sum() > 0
    latents = torch.zeros(1, 4, 24, 10, requires_grad=True)
    codec.decode(latents).sum().backward()
    assert (latents.grad.abs().sum(1) > 0).all()


def test_half_precision_comes_back_in_the_callers_dtype():
    vae, image = tiny_vae(), pixels(1, 3, 2, 16, 16)
    with torch.no_grad():
        wanted = Codec(vae).decode(Codec(vae).encode(image))
        half = Codec(vae.to(torch.bfloat16))
        got = half.decode(half.encode(image))
    assert got.dtype == torch.float32
    assert (got - wanted).abs().mean() < 0.05


def test_wrong_sizes_are_refused():
    codec = Codec(tiny_vae())
    for shape in ((1, 3, 18, 16), (1, 3, 2, 16, 18)):
        with pytest.raises(InputError, match="a multiple of 4"):
            codec.encode(torch.zeros(shape))
    for wrong in ({"slice_size": 0}, {"tile_size": 19}):
        with pytest.raises(InputError):
            Codec(codec.vae, **wrong)


def test_frame_order_is_kept():
    codec, clip = Codec(tiny_vae()), pixels(3, 3, 4, 16, 16)
    with torch.no_grad():
        folded = codec.encode(rearrange(clip, "b c t h w -> (b t) c h w"))
        near(codec.encode(clip), rearrange(folded, "(b t) c h w -> b c t h w", b=3))

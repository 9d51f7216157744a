import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from shared.artifacts.pixels import from_uint8, to_uint8
from shared.latents.codec import Codec
from shared.latents.preview import LatentPreview
from shared.models.source import resolve_model
from tests.tiny import tiny_temporal_vae, tiny_vae
from world.dataset import draw_samples


class Mean(Codec):
    """In the closed form: latents are the means of four by four pixels; a decode repeats them."""

    def encode(self, pixels):
        return F.avg_pool2d(pixels, 4).flip(1)

    def decode(self, latents):
        return latents.flip(1).repeat_interleave(4, -1).repeat_interleave(4, -2)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b.astype(float)).mean())


def test_a_linear_codec_is_found_exactly():
    codec = Mean(tiny_vae())
    preview = LatentPreview(codec)
    latents = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = to_uint8(latents.flip(0).repeat_interleave(2, -1).repeat_interleave(2, -2)[None])
    assert np.abs(preview.frames(latents).astype(int) - wanted).max() <= 2  # a ridge is added


def test_pictures_of_the_embedded_model_look_like_the_decode():
    codec = Codec(AutoencoderTiny.from_pretrained(resolve_model("world"), subfolder="vae").float().eval())
    pictures = np.concatenate(
        [sample.pixels[:1] for sample in draw_samples(8, kind="images", seed=1, split="held-out")]
    )
    with torch.no_grad():
        latents = codec.encode(from_uint8(pictures))
        decoded = to_uint8(F.avg_pool2d(codec.decode(latents), 2))
    preview = LatentPreview(codec)
    found = [psnr(preview.frames(one)[0], wanted) for one, wanted in zip(latents, decoded, strict=True)]
    assert min(found) > 20, found
    assert np.mean(found) > 23, found


def test_a_clip_is_its_frames_and_a_broken_latent_is_grey():
    preview = LatentPreview(Codec(tiny_vae()))
    clip = torch.randn(4, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    frames = preview.frames(clip)
    assert frames.shape == (3, 16, 12, 3)
    for t in range(3):
        assert np.array_equal(frames[t], preview.frames(clip[:, t])[0])
    clip[:, 0] = torch.nan
    assert (preview.frames(clip)[0] == 128).all()


def test_a_decoder_that_looks_across_frames():
    assert LatentPreview(Codec(tiny_temporal_vae())).frames(torch.zeros(4, 2, 8, 8)).shape == (2, 16, 16, 3)


def test_it_is_the_same_every_time_and_draws_from_no_global_generator():
    codec, latents = Codec(tiny_vae()), torch.ones(4, 8, 8)
    torch.manual_seed(3)
    first = LatentPreview(codec).frames(latents)
    after = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(3))
    assert np.array_equal(first, LatentPreview(codec).frames(latents))

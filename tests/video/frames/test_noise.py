import pytest
import torch

from shared.rng import generator
from video.frames.noise import mixed_noise


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_every_frame_is_standard_normal_and_two_frames_correlate_by_the_share(share):
    eps = mixed_noise((3, 4, 6, 64, 64), generator(0), share=share)  # b c t h w
    frames = eps.transpose(1, 2).reshape(3 * 6, -1).view(3, 6, -1)
    correlation = frames @ frames.transpose(1, 2) / frames.shape[-1]
    expected = share * torch.ones(6, 6) + (1 - share) * torch.eye(6)
    # 16,384 draws: a correlation's standard error is below 0.011.
    assert (correlation - expected).abs().max() < 0.045
    assert (frames[0] @ frames[1].T / frames.shape[-1]).abs().max() < 0.045  # clips have nothing in common


def test_no_share_is_plain_noise():
    plain = torch.randn(4, 5, 3, 2, generator=generator(1))
    assert torch.equal(mixed_noise((4, 5, 3, 2), generator(1), share=0.0), plain)

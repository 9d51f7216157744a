"""Windows of a clip: equation 5 against a slow loop, what must not change at all, and memory of one window."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from shared.diffusion.conditioning import Conditioning
from shared.diffusion.denoiser import Denoiser
from shared.diffusion.guidance import guided
from shared.diffusion.schedule import NoiseSchedule
from shared.errors import InputError
from tests.near import near
from tests.tiny import tiny_scheduler, tiny_unet
from video.frames.windows import Windowed, even_moments, window_starts, window_weights, windowed
from video.network import TemporalLayers, VideoUNet

SCHEDULE = NoiseSchedule.from_scheduler(tiny_scheduler())


class Linear(nn.Module):
    """A network that treats every frame alike: a matrix over channels and a constant, both with the prompt in them."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))

    def forward(self, x_t, t, encoder_hidden_states, moments=None):
        return torch.einsum("dc,bcthw->bdthw", self.matrix, x_t) + encoder_hidden_states.mean() + t.sum() / 1000


class Counting(nn.Module):
    """A network that says the number of a frame in its window; `seen` has the moments of every call."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x_t, t, encoder_hidden_states, moments=None):
        self.seen.append(moments)
        return torch.arange(x_t.shape[2], dtype=x_t.dtype).view(1, 1, -1, 1, 1).expand_as(x_t)


def video_network() -> VideoUNet:
    unet = tiny_unet()
    temporal = TemporalLayers.for_unet(unet, embed_dim=32, head_dim=16)
    for name, parameter in temporal.named_parameters():
        if name.endswith("gate"):
            parameter.data.fill_(0.3)
    return VideoUNet(unet, temporal).eval()


def denoiser(network):
    return Denoiser(network, SCHEDULE, "v_prediction")


def inputs(frames, size=8):
    torch.manual_seed(3)
    return torch.randn(2, 4, frames, size, size), torch.tensor([20, 900]), torch.randn(2, 6, 32)


@torch.no_grad()
@pytest.mark.parametrize("frames", [5, 8])
def test_one_window_is_the_plain_denoiser_exactly(frames):
    network, (x, t, tokens) = video_network(), inputs(frames)
    plain = denoiser(network)
    for other in (windowed(plain, 8), windowed(plain, None)):
        told = Conditioning(tokens)
        assert torch.equal(other(x, t, told).x0, plain(x, t, told).x0)


@torch.no_grad()
@pytest.mark.parametrize(("frames", "window", "overlap"), [(13, 6, None), (9, 8, 1), (20, 5, 4), (16, 2, 1)])
def test_frames_that_do_not_see_each_other_are_not_changed(frames, window, overlap):
    plain, (x, t, tokens) = denoiser(Linear()), inputs(frames)
    by_windows, whole = (
        guided(each, Conditioning(tokens / 2), 5.0, rescale=0.5)(x, t, Conditioning(tokens)).v
        for each in (windowed(plain, window, overlap), plain)
    )
    near(by_windows, whole)


@torch.no_grad()
@pytest.mark.parametrize(("frames", "window", "overlap"), [(13, 6, 3), (32, 16, 8), (9, 8, 1)])
def test_the_blend_is_equation_5_by_a_slow_loop(frames, window, overlap):
    network, (x, t, tokens) = video_network(), inputs(frames, size=4)
    got = Windowed(denoiser(network), window, overlap)(x, t, Conditioning(tokens)).v
    starts, weights = window_starts(frames, window, overlap), window_weights(window)
    when = torch.arange(frames) / (frames - 1)
    parts = {start: slice(start, start + window) for start in starts}
    predictions = {start: network(x[:, :, part], t, tokens, when[part]) for start, part in parts.items()}
    for frame in range(frames):
        above = below = 0.0
        for start in starts:
            if start <= frame < start + window:
                above = above + float(weights[frame - start]) * predictions[start][:, :, frame - start]
                below += float(weights[frame - start])
        near(got[:, :, frame], above / below)


def test_windows_cover_all_frames_with_their_overlap_and_smooth_weights():
    for frames, window, overlap in ((17, 16, 8), (32, 16, 8), (64, 16, 8), (50, 7, 2), (3, 2, 1)):
        starts = window_starts(frames, window, overlap)
        assert starts[0] == 0
        assert starts[-1] == frames - window
        assert all(0 < b - a <= window - overlap for a, b in pairwise(starts))
        assert len(starts) == 1 + -(-(frames - window) // (window - overlap))  # no more than it takes
    weights = window_weights(16)
    assert (weights > 0).all()
    near(weights[:8] + weights[8:], torch.ones(8))
    assert window_starts(5, 16, 8) == [0]


def test_the_network_sees_no_more_than_a_window_at_a_time():
    network = Counting()
    x, t, tokens = inputs(64, size=2)
    Windowed(denoiser(network), 16)(x, t, Conditioning(tokens))
    assert {moments.shape for moments in network.seen} == {(2, 16)}
    assert len(network.seen) == 7


def test_windows_are_told_when_in_the_clip_they_are():
    network = Counting()
    x, t, tokens = inputs(9, size=2)
    Windowed(denoiser(network), 4)(x, t, Conditioning(tokens))
    for moments, start in zip(network.seen, window_starts(9, 4, 2), strict=True):
        assert moments.tolist() == 2 * [[(start + i) / 8 for i in range(4)]]


def test_moments_of_a_whole_clip_run_from_0_to_1():
    assert even_moments(5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert even_moments(1).tolist() == [0]


def test_an_overlap_that_is_none_is_refused():
    for overlap in (0, 8):
        with pytest.raises(InputError, match="overlap of windows: expected 1 to 7 frames"):
            Windowed(denoiser(Counting()), 8, overlap)


@pytest.mark.parametrize("window", [0, 1, -3])
def test_a_window_of_fewer_than_two_frames_is_refused(window):
    with pytest.raises(InputError, match=f"^window: expected 2 frames or more.* got {window}$"):
        Windowed(denoiser(Counting()), window)

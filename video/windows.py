"""Long clips by windows: the network sees some frames at a time, and its windows agree where they overlap.

x_t         noisy latents of a clip, "b c t h w".
F_i         takes the frames of window i out of the clip; F_i^-1 puts them back, with zeros around them.
W_i         weights of the window's frames; in the middle 1, falling to its ends.
Phi         the network, on a window.

    Psi(x_t) = sum_i  F_i^-1(W_i) / sum_j F_j^-1(W_j)  *  F_i^-1(Phi(F_i(x_t)))          (MultiDiffusion, Bar-Tal et
                                                                                         al. 2023, equation 5)
The paper blends the next, less noisy latents. Those are linear in the prediction wherever a scheduler takes its step,
with factors that all frames share, so blending predictions is the same, and whatever takes a `Denoiser` takes this one.
In time it is Gen-L-Video (Wang et al. 2023, section 4). The network's memory is that of one window, however long the
clip. Each window is told which moments of the clip its frames are, so that one motion runs through them all: left to
itself, every window would begin it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from shared.denoiser import Denoiser
from shared.errors import InputError


def windowed(denoiser: Denoiser, window: int | None, overlap: int | None = None) -> Denoiser:
    """The denoiser on windows of `window` frames, blended; the denoiser itself where that is None.

    overlap: the least number of frames that neighbours have in common, from 1 to window - 1; half of it unless given.
    A clip of no more than `window` frames is one window, and the result the plain denoiser's, exactly.
    """
    if window is None:
        return denoiser
    return Denoiser(WindowedNetwork(denoiser.network, window, overlap), denoiser.schedule, denoiser.prediction_type)


class WindowedNetwork(nn.Module):
    """A network on clips, window by window.

    Raises InputError for a window of fewer than 2 frames, or an overlap that is not from 1 to window - 1.
    """

    def __init__(self, network: Callable[..., Tensor], window: int, overlap: int | None = None) -> None:
        super().__init__()
        if window < 2:
            raise InputError("window", expected="2 frames or more, or none for all at once", got=window)
        overlap = window // 2 if overlap is None else overlap
        if not 1 <= overlap < window:
            raise InputError("overlap of windows", expected=f"1 to {window - 1} frames", got=overlap)
        self.network = network
        self.window = window
        self.overlap = overlap

    def forward(
        self,
        x_t: Float[Tensor, "b c t h w"],
        t: Shaped[Tensor, " b"],
        encoder_hidden_states: Float[Tensor, "b n d"] | None = None,
        **extra: Any,
    ) -> Float[Tensor, "b c t h w"]:
        """Equation 5. t, encoder_hidden_states and extra go to every window as they are; the network is also given
        `moments`, those of the window's frames.
        """
        frames = x_t.shape[2]
        if frames <= self.window:
            return self.network(x_t, t, encoder_hidden_states=encoder_hidden_states, **extra)
        total = torch.zeros_like(x_t)
        weight = torch.zeros(frames, 1, 1, device=x_t.device, dtype=x_t.dtype)
        moments = even_moments(frames)
        own = window_weights(self.window).to(weight)[:, None, None]
        for start in window_starts(frames, self.window, self.overlap):
            part = slice(start, start + self.window)
            prediction = self.network(
                x_t[:, :, part], t, encoder_hidden_states=encoder_hidden_states, moments=moments[part], **extra
            )
            total[:, :, part] += own * prediction
            weight[part] += own
        return total / weight


def even_moments(frames: int) -> Float[Tensor, " frames"]:
    """When each frame of a whole clip is, evenly spaced from 0, its first, to 1, its last; in double precision."""
    return torch.arange(frames, dtype=torch.float64) / max(frames - 1, 1)


def window_starts(frames: int, window: int, overlap: int) -> list[int]:
    """First frames of windows, as few as there can be, evenly spread: the first 0, the last frames - window."""
    count = -(-(frames - window) // (window - overlap)) + 1
    return [round(i * (frames - window) / (count - 1)) for i in range(count)] if count > 1 else [0]


def window_weights(window: int) -> Float[Tensor, " window"]:
    """W_i: sin^2 from end to end, above 0 everywhere. At an overlap of a half two neighbours' weights sum to 1."""
    position = (torch.arange(window) + 0.5) / window
    return torch.sin(torch.pi * position).square()

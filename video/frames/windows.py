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

from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from shared.diffusion.conditioning import NOTHING, Conditioning
from shared.diffusion.denoiser import Denoiser, Outputs, WrappedDenoiser
from shared.errors import InputError


def windowed(denoiser: Denoiser, window: int | None, overlap: int | None = None) -> Denoiser:
    """The denoiser on windows of `window` frames, blended; the denoiser itself where that is None."""
    return denoiser if window is None else Windowed(denoiser, window, overlap)


class Windowed(WrappedDenoiser):
    """A denoiser of clips, window by window.

    overlap: the least number of frames that neighbours have in common, from 1 to window - 1; half of it unless given.
    A clip of no more than `window` frames is one window, and the result the plain denoiser's, exactly.
    Raises InputError for a window of fewer than 2 frames, or an overlap that is not from 1 to window - 1.
    """

    def __init__(self, inner: Denoiser, window: int, overlap: int | None = None) -> None:
        super().__init__(inner)
        if window < 2:
            raise InputError("window", expected="2 frames or more, or none for all at once", got=window)
        overlap = window // 2 if overlap is None else overlap
        if not 1 <= overlap < window:
            raise InputError("overlap of windows", expected=f"1 to {window - 1} frames", got=overlap)
        self.window = window
        self.overlap = overlap

    def outputs(
        self, x_t: Float[Tensor, "b c t h w"], t: Shaped[Tensor, " b"], conditioning: Conditioning = NOTHING
    ) -> Outputs:
        """Equation 5. Every window is told the `moments` of its frames, beside what the conditioning says of them."""
        frames = x_t.shape[2]
        if frames <= self.window:
            return self.inner.outputs(x_t, t, conditioning)
        if "moments" not in conditioning.frames:
            conditioning = conditioning.with_frames(moments=even_moments(frames).expand(len(x_t), -1))
        told = {
            start: self.inner.outputs(x_t[:, :, part], t, conditioning.frames_of(part))
            for start in window_starts(frames, self.window, self.overlap)
            for part in [slice(start, start + self.window)]
        }
        output = blend({start: each.output for start, each in told.items()}, frames)
        if all(each.conditional is each.output for each in told.values()):
            return Outputs(output, output)
        return Outputs(output, blend({start: each.conditional for start, each in told.items()}, frames))


def blend(windows: Mapping[int, Float[Tensor, "b c window h w"]], frames: int) -> Float[Tensor, "b c t h w"]:
    """Equation 5 from the network's outputs, each under the number of its window's first frame."""
    like = next(iter(windows.values()))
    own = window_weights(like.shape[2]).to(like)[:, None, None]
    total = like.new_zeros(*like.shape[:2], frames, *like.shape[3:])
    weight = like.new_zeros(frames, 1, 1)
    for start, window in windows.items():
        part = slice(start, start + len(own))
        total[:, :, part] += own * window
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

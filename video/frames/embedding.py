"""What every temporal layer is told of a frame beside its features, as one vector.

when  where in the motion each frame stands, in frames of a clip as the layers were trained on (see video/temporal.py).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from video.frames.cameras import CAMERA_FEATURES, camera_features


def frame_positions(when: Float[Tensor, "*batch t"], dim: int) -> Float[Tensor, "*batch t dim"]:
    """Sinusoidal positions of frames (Vaswani et al. 2017, section 3.5), first sines, then cosines.

    Wavelengths run from 2 pi to 2000 pi frames. Frames between two others have positions between theirs (as in the
    position interpolation of Chen et al. 2023, section 2.3).
    """
    half = dim // 2
    exponent = torch.arange(half, device=when.device, dtype=torch.float32) / max(half - 1, 1)
    angle = when.unsqueeze(-1) * torch.exp(-math.log(1000.0) * exponent)
    return F.pad(torch.cat([angle.sin(), angle.cos()], dim=-1), (0, dim - 2 * half))


class FrameEmbedding(nn.Module):
    """What a temporal layer is told about a frame besides its features.

    e = silu(W silu(W_t silu(time) + W_y text + (1 + W_g text) (W_p position + W_c camera))), where `time` is the image
    network's own embedding of the noise level, `position` is sinusoidal, and `text` is the largest value over tokens of
    every learned feature of a token (max pooling, Qi et al. 2017, equation 1): whether a word is there, wherever it
    stands in the prompt. Pooling by attention with learned queries drowned the one word that names the direction.

    W_c, only in layers that know of cameras (video/frames/cameras.py), starts at zero.

    Why a product of text and position: "left" and "right" make opposite places of the same frame, and neither the word
    nor the frame says anything about the place by itself, so a sum is slow to learn from.

    The image network shows its prompt to features only through cross-attention, which its upper levels lack; and all
    frames share one prompt, so "moving left" could reach those levels only as a trace in the picture. Through e it
    reaches every temporal layer.
    """

    def __init__(self, time_dim: int, text_dim: int, embed_dim: int, *, cameras: bool = False) -> None:
        super().__init__()
        self.position_dim = embed_dim
        hidden = 2 * embed_dim  # room for every motion at every moment
        self.text_norm = nn.LayerNorm(text_dim)
        self.word = nn.Linear(text_dim, hidden)
        self.text = nn.Linear(hidden, hidden, bias=False)
        self.gain = nn.Linear(hidden, hidden, bias=False)
        self.time = nn.Linear(time_dim, hidden)
        self.position = nn.Linear(embed_dim, hidden, bias=False)
        self.out = nn.Linear(hidden, embed_dim)
        self.camera = nn.Linear(CAMERA_FEATURES, hidden, bias=False) if cameras else None
        if self.camera is not None:
            nn.init.zeros_(self.camera.weight)

    def forward(
        self,
        time: Float[Tensor, "b time"],
        tokens: Float[Tensor, "b n d"],
        when: Float[Tensor, "*batch t"],
        camera: Float[Tensor, "b t 2"] | None = None,
    ) -> Float[Tensor, "b t e"]:
        words = self.word(self.text_norm(tokens)).amax(dim=1)
        position = self.position(frame_positions(when, self.position_dim).to(tokens.dtype))
        if camera is not None and self.camera is not None:
            position = position + self.camera(camera_features(camera).to(tokens.dtype))
        mixed = (self.time(F.silu(time)) + self.text(words))[:, None] + (1 + self.gain(words))[:, None] * position
        return F.silu(self.out(F.silu(mixed)))

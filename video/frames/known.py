"""Frames of a clip that are given: the first one, the last one, or others between which the network finds the rest.

known  what the network is told of them, `b t c+1 h w`: their latents, and a mask that is 1 where a frame is given
       (Blattmann et al. 2023, section 3.2: c_S = (m_S z, m_S)). The other frames are not told nothing but of the given
       ones around them, blended by how far they are: so every frame knows what the thing looks like, as in Stable Video
       Diffusion (Blattmann et al. 2023b, section 4.1), and of two ends learns what a blend lacks.

The network hears of them at its first convolution, by one more convolution whose weights start at zero: layers that
learn of given frames begin as those that knew none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class KnownFrames(nn.Module):
    """known -> what is added to the features after the UNet's first convolution. channels: of latents."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels + 1, width, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, known: Float[Tensor, "b t k h w"]) -> Float[Tensor, "bt width h w"]:
        return self.conv(known.flatten(0, 1))


def told(latents: Float[Tensor, "b c t h w"], given: Bool[Tensor, "b t"]) -> Float[Tensor, "b t c+1 h w"]:
    """`known` of those frames of scaled latents that are given; zero of a clip without any."""
    weights = _blend(given).to(latents)
    frames = torch.einsum("b s t, b c t h w -> b s c h w", weights, latents)
    mask = given[:, :, None, None, None].to(latents)
    return torch.cat([frames, mask.expand(-1, -1, 1, *frames.shape[3:])], dim=2)


def _blend(given: Bool[Tensor, "b t"]) -> Float[Tensor, "b t t"]:
    """The share of each given frame (the last axis) in what is told of each frame: linear between two, and the nearest
    one before the first and after the last."""
    frames = given.shape[1]
    index = torch.arange(frames, device=given.device).expand_as(given)
    before = torch.where(given, index, -1).cummax(dim=1).values
    after = torch.where(given, index, frames).flip(1).cummin(dim=1).values.flip(1)
    none_before, none_after = before < 0, after == frames
    before, after = torch.where(none_before, after, before), torch.where(none_after, before, after)
    share = (index - before) / (after - before).clamp_min(1)
    one_hot = torch.eye(frames + 1, device=given.device)[:, :frames]  # row `frames`, of no frame, is zero
    before, after = (torch.where(none_before & none_after, frames, each) for each in (before, after))
    return torch.lerp(one_hot[before], one_hot[after], share[..., None])


def drawn(shares: Sequence[float], frames: int, draw: torch.Generator) -> Bool[Tensor, "b t"]:
    """Which frames are given to whom in a training step: with a chance of `shares[i]` some of clip i's, else none.

    Where some are, it is the first one in two cases of five, the first and the last in another two, and in the fifth
    as many at the beginning as chance wants, up to half of them.
    """
    given = torch.zeros(len(shares), frames, dtype=torch.bool)
    for clip, (u, v, w) in enumerate(torch.rand(len(shares), 3, generator=draw, dtype=torch.float64).tolist()):
        if u >= shares[clip]:
            continue
        given[clip, : 1 + int(w * (frames // 2)) if v >= 0.8 else 1] = True
        if 0.4 <= v < 0.8:
            given[clip, -1] = True
    return given

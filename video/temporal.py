"""Temporal layers of a video latent diffusion model (Blattmann et al. 2023, "Align your Latents", section 3.1).

Symbols, for one block:

z      features of the frames of b clips, `(b t) c h w`: what the spatial layer before the block gave.
z'     what the temporal layer makes of them.
alpha  learned, one number a layer, in [0, 1]. The block returns  alpha z + (1 - alpha) z'   (paper, section 3.1).
when   where in the motion each frame stands, `t` for all clips or `b t`, in frames of a clip as the layers were trained
       on: 0 the first, with fractions in between where a clip has more frames, or is seen in part.
e      conditioning of one frame, `b t e`: noise level, `when`, and the prompt (`video.frames.embedding`).
s      a position in the picture, s = h w.
place  where each s is, `s 2`: x and y, from -1 to 1.

In a block, e scales features, shifts them, and tilts them: adds a ramp over the picture, along x and along y. Without
the tilt every position is told the same, and where an object is does not follow from "left" and the frame's number.

Inside a block features lie as `b t s c`. For a network in channels-last memory format that is a view of z, so that
neither the convolution over t nor the attention over t copies anything to get there and back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from shared.attention import attend, attend_frames
from shared.compute.projection import Projection
from video.frames.embedding import frame_positions

PLACE_WAVES = 4  # for each of x and y


class AlphaMix(nn.Module):
    """alpha z + (1 - alpha) z', with alpha exactly 1 in a new layer and alive from there.

    Why not alpha = sigmoid(p): it reaches 1 only where its gradient is 0. Why not a clamped alpha that starts at 1:
    half of all new layers have a gradient that pushes alpha above 1, and they stay shut. So the parameter is `gate`, a
    signed number that starts at 0, with

        alpha = 1 - |gate|,      z' = z + sign(gate) f(z),

    and the mix is z + gate f(z): smooth through 0, and either sign opens the layer. f must not start at zero, for the
    gate's gradient is <dL/dz, f(z)>. This is how residual branches start in ReZero (Bachlechner et al. 2020, eq. 2).
    f's own gradient is gate times something; Adam is blind to that factor, plain SGD would not be.

    `gate` is clamped to [-1, 1] with the gradient passed straight through.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))

    @property
    def alpha(self) -> Float[Tensor, ""]:
        """Weight of the spatial features, in [0, 1]."""
        return 1 - self.gate.detach().clamp(-1, 1).abs()

    def forward(self, z: Float[Tensor, "*shape"], f: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """alpha z + (1 - alpha) (z + sign(gate) f), which is z itself, bit for bit, while gate = 0."""
        gate = self.gate + (self.gate.clamp(-1, 1) - self.gate).detach()
        return z + gate * f


class Modulation(nn.Module):
    """(1 + scale) z + shift + x tilt_x + y tilt_y, all four linear in e."""

    def __init__(self, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embed_dim, 4 * channels)

    def forward(
        self, z: Float[Tensor, "b t s c"], e: Float[Tensor, "b t e"], place: Float[Tensor, "s 2"]
    ) -> Float[Tensor, "b t s c"]:
        scale, affine = self.linear(e).split([z.shape[-1], 3 * z.shape[-1]], dim=-1)
        shift_and_tilt = affine.unflatten(-1, (3, -1))
        ramp = F.pad(place, (1, 0), value=1.0).to(affine.dtype) @ shift_and_tilt
        return torch.addcmul(ramp, z, 1 + scale.unsqueeze(2))


def places(height: int, width: int, *, device: torch.device | None = None) -> Float[Tensor, "s 2"]:
    """x and y of the middle of every position, row by row; -1 and 1 are the picture's edges."""
    y, x = ((torch.arange(n, device=device) + 0.5) * 2 / n - 1 for n in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 2)


class TemporalConvBlock(nn.Module):
    """f of a 3D-convolution residual block whose kernels are 3 x 1 x 1: over t only (paper, figure 4, "Conv3D").

    norm, SiLU, convolution, norm, modulation by e, SiLU, convolution: a diffusers resnet block turned to face t.
    Norms are over channels of one position (LayerNorm): a group norm over all frames would make a frame's features
    depend on how long the clip is. With (h w) flattened, the 3 x 1 x 1 kernel is a 3 x 1 kernel over (t, s).
    """

    def __init__(self, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.norm2 = nn.LayerNorm(channels, elementwise_affine=False)
        self.modulation = Modulation(channels, embed_dim)
        self.conv2 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.mix = AlphaMix()

    def forward(
        self,
        z: Float[Tensor, "b t s c"],
        e: Float[Tensor, "b t e"],
        place: Float[Tensor, "s 2"],
        when: Float[Tensor, "*batch t"],
    ) -> Float[Tensor, "b t s c"]:
        """The convolution knows `when` by e alone."""
        h = _over_frames(self.conv1, F.silu(self.norm1(z)))
        h = self.modulation(self.norm2(h), e, place)
        return self.mix(z, _over_frames(self.conv2, F.silu(h)))


def _over_frames(conv: nn.Module, x: Float[Tensor, "b t s c"]) -> Float[Tensor, "b t s c"]:
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class TemporalAttentionBlock(nn.Module):
    """f of a temporal self-attention layer: every position of the picture attends over the t frames (paper, figure 4).

    Frames are told apart by sinusoidal positions added to the normalised features; e modulates them too.
    """

    def __init__(self, channels: int, embed_dim: int, head_dim: int) -> None:
        super().__init__()
        self.heads = max(channels // head_dim, 1)
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.modulation = Modulation(channels, embed_dim)
        self.to_qkv = Projection(channels, 3 * channels, bias=False)
        self.to_out = Projection(channels, channels)
        self.mix = AlphaMix()

    def forward(
        self,
        z: Float[Tensor, "b t s c"],
        e: Float[Tensor, "b t e"],
        place: Float[Tensor, "s 2"],
        when: Float[Tensor, "*batch t"],
    ) -> Float[Tensor, "b t s c"]:
        return self.mix(z, self.attended(self.told(z, e, place, when)))

    def told(
        self,
        z: Float[Tensor, "b t s c"],
        e: Float[Tensor, "b t e"],
        place: Float[Tensor, "s 2"],
        when: Float[Tensor, "*batch t"],
    ) -> Float[Tensor, "b t s c"]:
        """What is attended to: features, and which frame each is of."""
        h = self.modulation(self.norm(z), e, place)
        return h + frame_positions(when, z.shape[-1]).to(h.dtype).unsqueeze(-2)

    def attended(self, h: Float[Tensor, "b t s c"]) -> Float[Tensor, "b t s c"]:
        """Self-attention over t, with its projections."""
        qkv = self.to_qkv(h).unflatten(-1, (3, self.heads, -1))
        return self.to_out(attend_frames(*qkv.unbind(3)).flatten(3))


class SpaceTimeAttentionBlock(nn.Module):
    """f of a self-attention over all positions of all frames at once, for places where these are few.

    Attention over t alone compares a position with itself; what moves is elsewhere in the next frame. Positions are
    told apart by sines and cosines of their place, from half a wave across the picture on, projected. What e says the
    attention over t, which stands before, has put into the features.
    """

    def __init__(self, channels: int, head_dim: int) -> None:
        super().__init__()
        self.heads = max(channels // head_dim, 1)
        self.norm = nn.LayerNorm(channels)
        self.place = nn.Linear(4 * PLACE_WAVES, channels, bias=False)
        self.to_qkv = Projection(channels, 3 * channels, bias=False)
        self.to_out = Projection(channels, channels)
        self.mix = AlphaMix()

    def forward(
        self,
        z: Float[Tensor, "b t s c"],
        e: Float[Tensor, "b t e"],
        place: Float[Tensor, "s 2"],
        when: Float[Tensor, "*batch t"],
    ) -> Float[Tensor, "b t s c"]:
        """e is not looked at."""
        return self.mix(z, self.attended(self.told(z, place, when)))

    def told(
        self, z: Float[Tensor, "b t s c"], place: Float[Tensor, "s 2"], when: Float[Tensor, "*batch t"]
    ) -> Float[Tensor, "b t s c"]:
        """What is attended to: features, which frame each is of, and where in the picture it is."""
        h = self.norm(z) + frame_positions(when, z.shape[-1]).to(z.dtype).unsqueeze(-2)
        return h + self.place(waves(place).to(h.dtype))

    def attended(self, h: Float[Tensor, "b t s c"]) -> Float[Tensor, "b t s c"]:
        """Self-attention over t and s, with its projections."""
        q, k, v = rearrange(self.to_qkv(h), "b t s (three heads d) -> three b heads (t s) d", three=3, heads=self.heads)
        return self.to_out(rearrange(attend(q, k, v), "b heads (t s) d -> b t s (heads d)", t=h.shape[1]))


def waves(place: Float[Tensor, "s 2"]) -> Float[Tensor, "s waves"]:
    """Sines and cosines of x and y, PLACE_WAVES of each, each wave half as long as the one before (Mildenhall et al.
    2020, equation 4)."""
    angle = place.unsqueeze(-1) * (math.pi / 2) * 2 ** torch.arange(PLACE_WAVES, device=place.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(1)


class TemporalBlock(nn.Module):
    """The temporal layers of one spatial block: a convolution after its resnet, an attention after its transformer.

    space_time: whether an attention over space and time together follows.
    """

    def __init__(self, channels: int, embed_dim: int, head_dim: int, *, space_time: bool = False) -> None:
        super().__init__()
        self.conv = TemporalConvBlock(channels, embed_dim)
        self.attention = TemporalAttentionBlock(channels, embed_dim, head_dim)
        self.space_time = SpaceTimeAttentionBlock(channels, head_dim) if space_time else None

    def forward(
        self,
        z: Float[Tensor, "bt c h w"],
        e: Float[Tensor, "b t e"],
        when: Float[Tensor, "*batch t"],
        layers: Sequence[str] = ("conv", "attention"),
    ) -> Float[Tensor, "bt c h w"]:
        """layers: those that run, in order; with the attention that over space and time, where there is one."""
        for name in layers:
            z = apply_over_frames(getattr(self, name), z, e, when)
        if "attention" in layers and self.space_time is not None:
            z = apply_over_frames(self.space_time, z, e, when)
        return z


def apply_over_frames(
    layer: TemporalConvBlock | TemporalAttentionBlock | SpaceTimeAttentionBlock,
    z: Float[Tensor, "bt c h w"],
    e: Float[Tensor, "b t e"],
    when: Float[Tensor, "*batch t"],
) -> Float[Tensor, "bt c h w"]:
    """A temporal layer on frames as a spatial network holds them; the result has z's memory format.

    The format matters for more than speed: spatial layers pick their algorithm, hence their rounding, by it.
    """
    bt, c, h, w = z.shape
    channels_last = not z.is_contiguous() and z.is_contiguous(memory_format=torch.channels_last)
    features = z.permute(0, 2, 3, 1).reshape(e.shape[0], bt // e.shape[0], h * w, c)
    result = layer(features, e, places(h, w, device=z.device), when).view(bt, h, w, c).permute(0, 3, 1, 2)
    return result if channels_last else result.contiguous()

"""A motion module: self-attention over the frames, for every position of the picture by itself (Guo et al. 2023,
"AnimateDiff", section 4.2), computed where the features lie and for some positions at a time.

Inside features lie as `b t s c`: clips, frames, positions of a picture, channels (as in `video.temporal`).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from jaxtyping import Float
from torch import Tensor

from shared.attention import attend_frames
from shared.compute.parts import tokens_at_once


class FramesProcessor:
    """diffusers' attention over features "b t s c": over t, through `attend_frames`."""

    def __call__(self, attn: Attention, hidden_states: Float[Tensor, "b t s c"], **_: Any) -> Float[Tensor, "b t s c"]:
        projected = (layer(hidden_states) for layer in (attn.to_q, attn.to_k, attn.to_v))
        q, k, v = (x.unflatten(-1, (attn.heads, -1)) for x in projected)
        return attn.to_out[0](attend_frames(q, k, v, scale=attn.scale).flatten(3))


class MotionModule(AnimateDiffTransformer3D):
    """The stock module, whose instances become this class: the same weights, names and results.

    The stock one brings the frames of each position next to each other, for all positions at once, and then holds what
    its feed-forward layers make of them. Here the features stay as they are.
    """

    def forward(  # type: ignore[override]
        self, z: Float[Tensor, "bt c h w"], num_frames: int
    ) -> Float[Tensor, "bt c h w"]:
        bt, _, h, w = z.shape
        features = z.permute(0, 2, 3, 1).reshape(bt // num_frames, num_frames, h * w, -1)
        normed = self.norm(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        width = self.transformer_blocks[0].ff.net[0].proj.out_features
        positions = max(1, tokens_at_once(width) // bt)
        made = [self._moved(part) for part in normed.split(positions, dim=2)]
        moved = made[0] if len(made) == 1 else torch.cat(made, dim=2)
        return z + moved.reshape(bt, h, w, -1).permute(0, 3, 1, 2)

    def _moved(self, normed: Float[Tensor, "b t s c"]) -> Float[Tensor, "b t s c"]:
        x = self.proj_in(normed)
        for block in self.transformer_blocks:
            x = _through(block, x)
        return self.proj_out(x)


def _through(block: BasicTransformerBlock, x: Float[Tensor, "b t s c"]) -> Float[Tensor, "b t s c"]:
    """A transformer block: two attentions over t, each told which frame is which, and a feed-forward layer."""
    frames = block.pos_embed.pe[:, : x.shape[1], None].to(x.dtype)
    x = x + block.attn1(block.norm1(x) + frames)
    x = x + block.attn2(block.norm2(x) + frames)
    return x + block.ff(block.norm3(x))

"""A video network of an image UNet and AnimateDiff's motion modules (Guo et al. 2023, section 4.2).

The image UNet sees b clips of t frames as b t pictures. After each of its transformers, or its resnets where there is
none, stands a motion module; the one in its middle is left out by the first version. Frames are told apart by their
number alone, counted from the first that the network sees: a clip by windows begins anew in each.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from diffusers import MotionAdapter, UNet2DConditionModel
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from shared.compute.parts import feed_forward_by_parts
from shared.errors import InputError
from video.clip_network import ClipNetwork, frame_by_frame
from video.motion.module import FramesProcessor, MotionModule
from video.network import check_supported
from video.recipe import TRAINED_FRAMES


class MotionUNet(ClipNetwork):
    """Image UNet + motion modules: a network on clips, `(x_t, t, tokens) -> prediction`, for a `Denoiser`.

    The UNet stays an image network for whoever else calls it, but for rounding. adapter: of widths that fit it
    (`video.motion.adapter`). Raises InputError for a UNet that temporal layers cannot stand in.
    """

    noise_share = 0.0  # motion modules are trained on noise of each frame's own

    def __init__(self, unet: UNet2DConditionModel, adapter: MotionAdapter) -> None:
        super().__init__()
        check_supported(unet)
        self.unet = unet
        self.temporal = adapter
        self._pass = Pass()
        handles = []
        for place, module in zip(
            places(unet, middle=adapter.mid_block is not None), motion_modules(adapter), strict=True
        ):
            module.__class__ = MotionModule
            for block in module.transformer_blocks:
                for attention in (block.attn1, block.attn2):
                    attention.set_processor(FramesProcessor())
            handles.append(place.register_forward_hook(partial(_after, self._pass, module)))
        feed_forward_by_parts(unet)
        # The hooks go with this network: the UNet may live longer.
        weakref.finalize(self, _remove, handles)

    @property
    def most_frames(self) -> int:
        """As many as the motion modules have positions for."""
        return self.temporal.config["motion_max_seq_length"]

    def forward(
        self,
        x_t: Float[Tensor, "b c t h w"],
        t: Shaped[Tensor, " b"] | Shaped[Tensor, ""] | float,
        encoder_hidden_states: Float[Tensor, "b n d"],
        moments: Float[Tensor, "*batch t"] | None = None,
        added_cond_kwargs: dict[str, Shaped[Tensor, "b ..."]] | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """As of `video.network.VideoUNet`; `moments` of windows are not heard.

        Raises InputError for more frames than there are positions for.
        """
        frames = x_t.shape[2]
        if frames > self.most_frames:
            raise InputError(
                "frames", expected=f"at most {self.most_frames} at a time, as the motion adapter has", got=frames,
                hint=f"--window {TRAINED_FRAMES} shows that many at a time",
            )  # fmt: skip

        self._pass.frames = frames
        try:  # tokens of each clip, not of each frame: see AttendProcessor
            return frame_by_frame(self.unet, x_t, t, encoder_hidden_states, added_cond_kwargs)
        finally:
            self._pass.frames = None


@dataclass
class Pass:
    """What the UNet runs on: clips of so many frames, or pictures where that is None."""

    frames: int | None = None


def _after(current: Pass, module: MotionModule, place: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """Runs a motion module on what a spatial one returns; outside of a pass on clips, nothing."""
    if current.frames is None:
        return None
    if isinstance(output, Tensor):
        return module(output, current.frames)
    return module(output[0], current.frames), *output[1:]


def places(unet: UNet2DConditionModel, *, middle: bool) -> Iterator[nn.Module]:
    """What a motion module stands after, in running order: each transformer, or resnet where no transformer follows.

    middle: whether one stands in the middle, too.
    """
    for block in (*unet.down_blocks, *([unet.mid_block] if middle else []), *unet.up_blocks):
        yield from getattr(block, "attentions", None) or block.resnets


def motion_modules(adapter: MotionAdapter) -> Iterator[Any]:
    """Those of an adapter, in running order."""
    for block in (
        *adapter.down_blocks,
        *([adapter.mid_block] if adapter.mid_block is not None else []),
        *adapter.up_blocks,
    ):
        yield from block.motion_modules


def _remove(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()

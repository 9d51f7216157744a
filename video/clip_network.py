"""What networks on clips share: an image UNet that sees b clips of t frames as b t pictures."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn


class ClipNetwork(nn.Module):
    """A network on clips around an image UNet, which it is like in configuration, precision and place."""

    unet: UNet2DConditionModel

    @property
    def config(self) -> dict:
        """The image UNet's configuration (sample size, channels, prediction)."""
        return self.unet.config

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def device(self) -> torch.device:
        return self.unet.device


class FramesAlone(ClipNetwork):
    """The image UNet of a network on clips: what it would say of every frame if none knew of the others, nor of its
    moment, of given frames or of a camera."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        x_t: Float[Tensor, "b c t h w"],
        t: Shaped[Tensor, " b"] | Shaped[Tensor, ""] | float,
        encoder_hidden_states: Float[Tensor, "b n d"],
        added_cond_kwargs: dict[str, Shaped[Tensor, "b ..."]] | None = None,
        frame_text: Float[Tensor, "b t n d"] | None = None,
        **of_frames: Tensor,
    ) -> Float[Tensor, "b c t h w"]:
        """As of `VideoUNet`; what else is said of frames is not heard."""
        tokens = tokens_of_frames(encoder_hidden_states, frame_text, x_t.shape[2])
        return frame_by_frame(self.unet, x_t, t, tokens, added_cond_kwargs)


def tokens_of_frames(
    text: Float[Tensor, "b n d"], frame_text: Float[Tensor, "b t n d"] | None, frames: int
) -> Float[Tensor, "bt n d"]:
    """What an image network is told of each frame of clips: the prompt of that frame, or else of its clip."""
    return text.repeat_interleave(frames, dim=0) if frame_text is None else frame_text.flatten(0, 1)


def frame_by_frame(
    unet: UNet2DConditionModel,
    x_t: Float[Tensor, "b c t h w"],
    t: Shaped[Tensor, " b"] | Shaped[Tensor, ""] | float,
    tokens: Float[Tensor, "_ n d"],
    added: dict[str, Shaped[Tensor, "b ..."]] | None,
) -> Float[Tensor, "b c t h w"]:
    """A UNet's prediction for every frame of clips as a picture of its own. tokens: as the UNet's attention takes them,
    one of each frame or of each clip. added: as of the networks here."""
    b, frames = x_t.shape[0], x_t.shape[2]

    def of_frames(value: Tensor) -> Tensor:
        return value.repeat_interleave(frames, dim=0)

    (predicted,) = unet(
        rearrange(x_t, "b c t h w -> (b t) c h w"),
        of_frames(torch.as_tensor(t, device=x_t.device).expand(b)),
        encoder_hidden_states=tokens.to(unet.dtype),
        added_cond_kwargs={name: of_frames(value) for name, value in (added or {}).items()} or None,
        return_dict=False,
    )
    return rearrange(predicted, "(b t) c h w -> b c t h w", t=frames)

"""The judge's two networks: one looks at a picture, one at the frames of a clip.

They share nothing with the models that they judge: plain convolutions on pixels, trained on renders of the world.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from world.prompt import COLOUR_NAMES, MOTIONS, OBJECT_NAMES, RELATIONS

PICTURE_SIZE = 64
CLIP_SIZE = 32
CLIP_FRAMES = 16
# What a picture is asked, and how many answers there are; relation 0 is none. "other" means the second thing named.
HEADS = {
    "obj": len(OBJECT_NAMES),
    "colour": len(COLOUR_NAMES),
    "relation": 1 + len(RELATIONS),
    "other": len(OBJECT_NAMES),
    "other_colour": len(COLOUR_NAMES),
}


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = _convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convolution(x)


def _trunk(inputs: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Each width halves the picture."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [_convolution(inputs, width, stride=2), _Residual(width)]
        inputs = width
    return nn.Sequential(*layers)


class PictureNetwork(nn.Module):
    """Logits of every head, from pixels in [0, 1]. The last 4x4 map is read cell by cell: relations are places."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 160)) -> None:
        super().__init__()
        self.trunk = _trunk(3, widths)
        self.narrow = _convolution(widths[-1], 64)
        self.hidden = nn.Linear(64 * (PICTURE_SIZE // 2 ** len(widths)) ** 2 + widths[-1], 192)
        self.heads = nn.ModuleDict({name: nn.Linear(192, answers) for name, answers in HEADS.items()})

    def forward(self, pixels: Float[Tensor, "b 3 64 64"]) -> dict[str, Tensor]:
        features = self.trunk(pixels * 2 - 1)
        features = torch.cat([self.narrow(features).flatten(1), features.amax(dim=(2, 3))], dim=1)
        features = F.relu(self.hidden(features))
        return {name: head(features) for name, head in self.heads.items()}


class MotionNetwork(nn.Module):
    """Logits of the motions, from the frames of a clip in [0, 1], stacked as channels."""

    def __init__(self, widths: tuple[int, ...] = (64, 96, 128)) -> None:
        super().__init__()
        self.trunk = _trunk(3 * CLIP_FRAMES, widths)
        self.last = nn.Linear(widths[-1] * (CLIP_SIZE // 2 ** len(widths)) ** 2, len(MOTIONS))

    def forward(self, frames: Float[Tensor, "b 16 3 32 32"]) -> Float[Tensor, "b motions"]:
        centred = frames - frames.mean(dim=(1, 3, 4), keepdim=True)  # the clip's mean colour says nothing about motion
        scale = centred.std(dim=(1, 2, 3, 4), keepdim=True).clamp(min=0.02)
        return self.last(self.trunk((centred / scale).flatten(1, 2)).flatten(1))

"""Views of a thing that stands still, as frames that are told their camera in place of their moment.

A video network with `cameras` is a multi-view one as well: what moves from frame to frame is who looks (Shi et al.
2023, "MVDream", section 3.2, inflate an image model by the same attention over frames).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

CAMERA_FEATURES = 6


def camera_features(camera: Float[Tensor, "b t 2"]) -> Float[Tensor, "b t 6"]:
    """What is told of azimuth and elevation in degrees (`shared.cameras`): sines and cosines of the azimuth and of
    twice it, the elevation as a share of 90, and 1, which says that there is a camera."""
    azimuth, elevation = camera.float().unbind(-1)
    angle = torch.deg2rad(azimuth)
    waves = [f(k * angle) for k in (1, 2) for f in (torch.sin, torch.cos)]
    return torch.stack([*waves, elevation / 90, torch.ones_like(elevation)], dim=-1)

"""What assets are made by: an image model, and where it brings one along, a model of several views at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from dreamfusion.critics import ViewTeacher
from shared.diffusion.denoiser import Denoiser
from shared.models.image_model import ImageModel, load_image_model
from shared.models.weight_files import read_json
from video.folder import COMPONENT, load_temporal
from video.frames.noise import mixed_noise
from video.network import VideoUNet


@dataclass(frozen=True)
class AssetModel:
    image: ImageModel
    views: ViewTeacher | None


def load_asset_model(
    source: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> AssetModel:
    """Raises ModelError as `load_image_model` does, and for temporal layers as `load_video_model` does."""
    image = load_image_model(source, device=device, dtype=dtype)
    return AssetModel(image, views_of(image))


def views_of(image: ImageModel) -> ViewTeacher | None:
    """The temporal layers beside an image model, where they know of cameras, as a teacher."""
    config = image.path / COMPONENT / "config.json"
    if not config.is_file() or not read_json(config).get("cameras"):
        return None
    temporal = load_temporal(image.path, device=image.unet.device, dtype=image.unet.dtype)
    network = VideoUNet(image.unet, temporal).eval()
    denoiser = Denoiser(network, image.schedule, image.prediction_type)
    return ViewTeacher(denoiser, partial(mixed_noise, share=temporal.noise_share))

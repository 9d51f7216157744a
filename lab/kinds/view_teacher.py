"""A model of several views at once that an image model brings along, for assets."""

from __future__ import annotations

from functools import partial

from dreamfusion.critics import ViewTeacher
from shared.diffusion.denoiser import Denoiser
from shared.models.image_model import ImageModel
from shared.models.weight_files import read_json
from video.clip_network import FramesAlone
from video.folder import COMPONENT, load_temporal
from video.frames.noise import mixed_noise
from video.network import VideoUNet


def views_of(image: ImageModel) -> ViewTeacher | None:
    """The temporal layers beside an image model, where they know of cameras, as a teacher."""
    config = image.path / COMPONENT / "config.json"
    if not config.is_file() or not read_json(config).get("cameras"):
        return None
    temporal = load_temporal(image.path, device=image.unet.device, dtype=image.unet.dtype)
    network = VideoUNet(image.unet, temporal).eval()
    denoiser = Denoiser(network, image.schedule, image.prediction_type)
    return ViewTeacher(denoiser, FramesAlone(image.unet).eval(), partial(mixed_noise, share=temporal.noise_share))

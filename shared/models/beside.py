"""What the UNet of some image models sees of a picture beside its latents: its depth, or itself in low resolution.

depth  inverse, as DPT (Ranftl et al. 2021) estimates it: the nearer the larger, of no unit. Stable Diffusion 2's UNet
       for it has one channel, from -1, the farthest of a picture, to 1, the nearest.
small  a picture in three channels, in [-1, 1], one pixel a latent, with noise of a level that the UNet is told as its
       class label (conditioning augmentation, Ho et al. 2022): Stable Diffusion's upscaler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from diffusers import SchedulerMixin
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DPTForDepthEstimation, DPTImageProcessorPil

from shared.attention import install_attention
from shared.errors import InputError, ModelError
from shared.models.parts import class_of, load_part, scheduler_of
from shared.models.pipelines.classes import CLASS, DEPTH, SEES, SMALL

ESTIMATORS = {"DPTForDepthEstimation": DPTForDepthEstimation}
# Under every name that transformers has had for it, which tell what it computes with.
PROCESSORS = dict.fromkeys(
    ("DPTImageProcessor", "DPTImageProcessorPil", "DPTImageProcessorFast", "DPTFeatureExtractor"), DPTImageProcessorPil
)
MOST_NOISE = 350  # of the upscaler's pipeline, where a folder does not say


@dataclass(frozen=True)
class DepthEstimator:
    """The network that finds the depth of a picture, and what prepares pictures for it."""

    sees: ClassVar[str] = DEPTH
    channels: ClassVar[int] = 1
    network: DPTForDepthEstimation
    processor: DPTImageProcessorPil

    @property
    def networks(self) -> list[nn.Module]:
        return [self.network]

    @torch.no_grad()
    def __call__(self, picture: UInt8[np.ndarray, "h w 3"], device: str | torch.device) -> Float[Tensor, "1 1 _ _"]:
        """The depth of a picture, in a size of the network's own."""
        pixels = self.processor(images=picture, return_tensors="pt").pixel_values
        return self.network(pixels.to(device)).predicted_depth[:, None]


@dataclass(frozen=True)
class LowResolution:
    """How noise comes into the small picture. most: the highest level that the model knows."""

    sees: ClassVar[str] = SMALL
    channels: ClassVar[int] = 3
    scheduler: SchedulerMixin
    most: int

    @property
    def networks(self) -> list[nn.Module]:
        return []

    def noisy(
        self, small: Float[Tensor, "b 3 h w"], noise: Float[Tensor, "b 3 h w"], level: int
    ) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, " b"]]:
        """The pictures with noise, and the level as a label of each. Raises InputError for one above `most`."""
        if level > self.most:
            raise InputError("noise-level", expected=f"at most {self.most} with this model", got=level)
        labels = torch.full((len(small),), level, device=small.device)
        return self.scheduler.add_noise(small, noise, labels), labels


Beside: TypeAlias = DepthEstimator | LowResolution


def beside_of(folder: Path, index: Mapping[str, Any], device: str | torch.device) -> Beside | None:
    """What a model folder has for it by its class; None where its UNet sees latents alone. In float32: the
    convolutions of depth estimators overflow float16.

    Raises ModelError as `load_part` does, and for a wrong configuration.
    """
    sees = SEES.get(index.get(CLASS, ""))
    if sees == DEPTH:
        network = load_part(folder, dict(index), "depth_estimator", ESTIMATORS, device, torch.float32)
        install_attention(network)
        return DepthEstimator(network, _processor(folder, index))
    if sees == SMALL:
        scheduler = scheduler_of(folder, dict(index), "low_res_scheduler")
        most = min(index.get("max_noise_level") or MOST_NOISE, scheduler.config["num_train_timesteps"] - 1)
        return LowResolution(scheduler, most)
    return None


def depth_latents(depth: Float[Tensor, "b 1 _ _"], height: int, width: int) -> Float[Tensor, "b 1 {height} {width}"]:
    """Depth of any size and unit as a UNet sees it beside latents of height by width.

    Raises InputError for a depth that is everywhere the same.
    """
    depth = F.interpolate(depth, (height, width), mode="bicubic", align_corners=False)
    far, near = depth.amin(dim=(1, 2, 3), keepdim=True), depth.amax(dim=(1, 2, 3), keepdim=True)
    if bool((near <= far).any()):
        raise InputError("depth", expected="something nearer than the rest", got="the same everywhere")
    return 2 * (depth - far) / (near - far) - 1


def _processor(folder: Path, index: Mapping[str, Any]) -> DPTImageProcessorPil:
    name = "feature_extractor"
    found = class_of(dict(index), name, PROCESSORS, folder)
    try:
        return found.from_pretrained(folder / name, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"preprocessing in {folder / name}", expected="that of DPT", got=str(error)) from error

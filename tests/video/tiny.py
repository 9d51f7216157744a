"""A tiny video model folder, and clips of a bright square that moves: real files for tests."""

import json
from pathlib import Path

import numpy as np
import torch

from shared.artifacts.media import write_clip
from tests.tiny import build_image_folder, tiny_unet
from video.folder import add_temporal
from video.network import TemporalLayers
from video.recipe import VideoTrainRecipe

DIRECTIONS = {"left": (-3, 0), "right": (3, 0), "up": (0, -3), "down": (0, 3)}


def build_video_folder(path: Path, seed: int = 0, *, known: float = 0.0, cameras: bool = False) -> Path:
    """The tiny image model with temporal layers whose gates are half open, in half precision.

    known: size of the weights by which they hear of given frames; 0: they have none. cameras: whether they hear of
    those.
    """
    build_image_folder(path, seed)
    torch.manual_seed(seed)
    temporal = TemporalLayers.for_unet(
        tiny_unet(seed), embed_dim=32, head_dim=16, noise_share=0.5, known=known > 0, cameras=cameras
    )
    with torch.no_grad():
        for name, parameter in temporal.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.5)
        if temporal.known is not None:
            temporal.known.conv.weight.normal_(std=known)
        if temporal.embedding.camera is not None:
            temporal.embedding.camera.weight.normal_()
    add_temporal(path, temporal.half())
    return path


def write_clips(folder: Path, *, frames: int = 10, height: int = 48, width: int = 64) -> Path:
    """Four clips and captions.jsonl; neither the size nor the number of frames is the model's."""
    (folder / "clips").mkdir(parents=True)
    with open(folder / "captions.jsonl", "w", encoding="utf-8") as lines:
        for word, (dx, dy) in DIRECTIONS.items():
            pixels = np.full((frames, height, width, 3), 60, np.uint8)
            for i in range(frames):
                x, y = width // 2 - 6 + dx * (i - frames // 2), height // 2 - 6 + dy * (i - frames // 2) // 2
                pixels[i, y : y + 12, x : x + 12] = (230, 40, 40)
            write_clip(folder / "clips" / f"{word}.mp4", pixels, 8)
            lines.write(json.dumps({"file": f"clips/{word}.mp4", "caption": f"a red cube moving {word}"}) + "\n")
    return folder


def small_recipe(**changes) -> VideoTrainRecipe:
    """A training of a few steps."""
    settings = {"steps": 6, "batch_size": 2, "frames": 4, "warmup_steps": 2, "precision": "fp32", "embed_dim": 16}
    return VideoTrainRecipe.parse({**settings, **changes})

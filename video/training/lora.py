"""Teaches a video model a motion, or a look, from a few clips: low-rank layers and a new word beside its own weights.

x0 "b c t h w": latents of clips; objective and noise are those that the temporal layers are trained with
(`video.training.stage`), what is trained and left is as of `shared.training.personalise.stage`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from shared.latents.codec import Codec
from shared.training import ranks
from shared.training.loop import TrainState
from shared.training.personalise import low_rank
from shared.training.personalise.examples import Examples
from shared.training.personalise.stage import Targets, learner, loss_on, train_concept
from shared.training.text_encoder import check_one_encoder
from video.frames.noise import mixed_noise
from video.generate import VideoModel, load_video_model
from video.recipe import VideoLoraTrainRecipe
from video.training.batches import clips_of, read_folders

CHECKPOINT = "video-lora.pt"
ATTENTION = ["to_qkv", "to_out"]
SHOWN = 4  # frames of a clip, from its first to its last, on which words are tried as a new one's beginning
LAYERS = {"attention": ATTENTION, "all": [*ATTENTION, "conv1", "conv2", "modulation.linear"]}  # of a temporal block


def targets_of(model: VideoModel, recipe: VideoLoraTrainRecipe) -> Targets:
    """What a recipe changes of a model."""
    unet = {low_rank.UNET: (model.image.unet, low_rank.LAYERS[recipe.layers])}
    temporal = {low_rank.TEMPORAL: (model.network.temporal, LAYERS[recipe.layers])}
    return {"image": unet, "temporal": temporal, "both": unet | temporal}[recipe.networks]


def read_clips(data: Path, codec: Codec, size: int, frames: int, caption: str | None) -> Examples:
    """The clips below `data`, their middle squares at `size` pixels. caption: of those that have none.

    Raises InputError as `read_folders` does.
    """
    folders = clips_of(read_folders(data, codec, size=size, frames=frames, caption=caption))
    latents = torch.cat([latents.float().transpose(1, 2) for _, latents in folders])
    return Examples(latents, [text for media, _ in folders for text in media.captions])


def train(
    recipe: VideoLoraTrainRecipe, data: Path, out: Path, resume: bool = False, device: str = "cpu"
) -> Iterator[TrainState]:
    """Trains on the clips below `data`; leaves `pytorch_lora_weights.safetensors` in `out`, and, where there is a new
    word, `learned_embeds.safetensors`. Raises ModelError for a model without temporal layers or with two text encoders.
    """
    model = load_video_model(recipe.model, device=device)
    check_one_encoder(model.image)
    network = model.network
    clips = read_clips(data, model.image.codec, model.image.default_size, recipe.frames, recipe.caption)
    shown = torch.linspace(0, recipe.frames - 1, min(SHOWN, recipe.frames)).round().long()
    coarse = Examples(clips.latents[:, :, shown], clips.captions)
    loss_of = partial(loss_on, network=network, noise=partial(mixed_noise, share=network.noise_share))
    learned = learner(model.image, recipe, coarse, targets_of(model, recipe), loss_of)
    states = train_concept(learned, recipe, clips, checkpoint=out / CHECKPOINT, resume=resume, loss_of=loss_of)
    for state in states:
        yield replace(state, model=lambda: VideoModel(learned.model, network))
    if ranks.rank() == 0:
        learned.save(out, recipe, len(clips.captions))

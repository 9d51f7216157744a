"""Sheets that show what a training stage has learned, or has so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from shared.artifacts.contact_sheet import contact_sheet
from shared.artifacts.media import write_clip, write_image
from shared.artifacts.pixels import from_uint8, to_uint8
from shared.images.generate import generate_images
from shared.images.recipe import ImageRecipe
from shared.latents.codec import Codec
from shared.models.clip_scorer import ClipScorer
from shared.models.image_model import ImageModel
from shared.training.data.arrays import MediaFolder
from video.generate import VideoModel, generate_clips
from video.recipe import ClipRecipe

Sheet = UInt8[np.ndarray, "h w 3"]
PICTURES, A_ROW = 16, 4
CLIPS, FRAMES_SHOWN = 6, 8
RECONSTRUCTED = 12


def spread(captions: Sequence[str], count: int) -> list[str]:
    """`count` of the different captions, evenly from the first to the last; all where there are no more."""
    distinct = list(dict.fromkeys(caption for caption in captions if caption.strip()))
    if len(distinct) <= count:
        return distinct
    return [distinct[i * len(distinct) // count] for i in range(count)]


def _captions(folders: Sequence[MediaFolder], *, clips: bool = False) -> list[str]:
    return [caption for folder in folders if folder.frames > 1 or not clips for caption in folder.captions]


def _shown(folders: Sequence[MediaFolder], count: int) -> list[tuple[np.ndarray, str]]:
    """Middle frames of `count` media, evenly from all of them, with their captions."""
    places = [(folder, i) for folder in folders for i in range(len(folder.pixels))]
    chosen = (
        [places[i * len(places) // count] for i in range(min(count, len(places)))] if len(places) > count else places
    )
    return [(np.asarray(folder.pixels[i, folder.frames // 2]), folder.captions[i]) for folder, i in chosen]


@torch.no_grad()
def reconstructions(codec: Codec, folders: Sequence[MediaFolder]) -> Sheet:
    """Pictures of the data above what the autoencoder makes of them."""
    originals = np.stack([pixels for pixels, _ in _shown(folders, RECONSTRUCTED)])
    decoded = to_uint8(codec.decode(codec.encode(from_uint8(originals))))
    return contact_sheet([list(originals), list(decoded)], ["pictures", "decoded from latents"], scale=2)


def pictures(model: ImageModel, folders: Sequence[MediaFolder], seed: int) -> Sheet:
    """One picture for each of some captions."""
    captions = spread(_captions(folders), PICTURES)
    states = generate_images(model, captions, [seed] * len(captions), ImageRecipe(prompt="of each"))
    pixels = deque(states, maxlen=1)[0].pixels
    assert pixels is not None
    made = to_uint8(pixels)
    rows = range(0, len(captions), A_ROW)
    labels = [" | ".join(captions[i : i + A_ROW]) for i in rows]
    return contact_sheet([list(made[i : i + A_ROW]) for i in rows], labels, scale=2)


def clips(model: VideoModel, folders: Sequence[MediaFolder], seed: int) -> tuple[list[np.ndarray], list[str]]:
    """A clip "t h w 3" for each of some captions of clips, and the captions."""
    captions = spread(_captions(folders, clips=True), CLIPS)
    made = []
    for caption in captions:
        recipe = ClipRecipe(prompt=caption, seed=seed, frames=2 * FRAMES_SHOWN)
        frames = deque(generate_clips(model, [recipe]), maxlen=1)[0].frames
        assert frames is not None
        made.append(frames[0])
    return made, captions


def strips(clips: Sequence[np.ndarray], captions: Sequence[str]) -> Sheet:
    """A row of frames of each clip."""
    return contact_sheet([list(clip[::2]) for clip in clips], captions)


def beside_each_other(clips: Sequence[np.ndarray]) -> UInt8[np.ndarray, "t h w 3"]:
    """All clips as one."""
    half = -(-len(clips) // 2)
    return np.stack([
        even(contact_sheet([[clip[at] for clip in row] for row in (clips[:half], clips[half:]) if row], scale=2))
        for at in range(len(clips[0]))
    ])  # fmt: skip


def even(picture: Sheet) -> Sheet:
    """Sides that a video codec takes."""
    return picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


def write(stage: str, model: Any, folders: Sequence[MediaFolder], seed: int, place: Path) -> None:
    """What a stage's model shows, into `place`.png, and of clips into `place`.mp4 as well.

    model: a codec, an image or a video model, or a scorer, as the stage trains it.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(model, VideoModel):
        made, captions = clips(model, folders, seed)
        write_image(f"{place}.png", strips(made, captions))
        write_clip(f"{place}.mp4", beside_each_other(made), ClipRecipe(prompt="of each").fps)
        return
    if stage == "autoencoder":
        sheet = reconstructions(model, folders)
    elif isinstance(model, ImageModel):
        sheet = pictures(model, folders, seed)
    else:
        sheet = found_captions(model, folders)
    write_image(f"{place}.png", sheet)


def found_captions(scorer: ClipScorer, folders: Sequence[MediaFolder]) -> Sheet:
    """Pictures of the data with the caption that the scorer finds for each, among all of them."""
    captions = spread(_captions(folders), 1000)
    features = scorer.conditioner.features(captions)
    shown = _shown(folders, RECONSTRUCTED)
    best = (scorer.image_features(np.stack([pixels for pixels, _ in shown])) @ features.T).argmax(dim=1).tolist()
    labels = [f"{caption}: found {captions[i]}" for (_, caption), i in zip(shown, best, strict=True)]
    return contact_sheet([[pixels] for pixels, _ in shown], labels)

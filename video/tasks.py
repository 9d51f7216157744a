"""Clips from frames that are given: what follows a picture, and what lies between two.

Each is `generate_clip` with pictures in place of the files that a recipe names.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from video.generate import ClipState, VideoModel, generate_clips
from video.recipe import ClipRecipe


def predict(model: VideoModel, recipe: ClipRecipe, first: UInt8[np.ndarray, "_ _ 3"]) -> Iterator[ClipState]:
    """A clip that begins with `first` (Blattmann et al. 2023, section 3.2)."""
    return generate_clips(model, [recipe], given={0: first})


def interpolate(
    model: VideoModel, recipe: ClipRecipe, first: UInt8[np.ndarray, "_ _ 3"], last: UInt8[np.ndarray, "_ _ 3"]
) -> Iterator[ClipState]:
    """A clip from `first` to `last` (section 3.3 there). `recipe.frames`: 2 or more, both ends among them."""
    return generate_clips(model, [recipe], given={0: first, recipe.frame_count - 1: last})

"""Sheets that a failure can be seen on: what was asked, what came, what the judge said, a true render beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from shared.artifacts.contact_sheet import contact_sheet
from world.prompt import Composition
from world.render import render
from world.scene import random_clip, random_still

PAIRS_A_ROW = 4
SHOWN_FRAMES = 8
SEED = 1

Sheet = UInt8[np.ndarray, "h w 3"]


def pictures_sheet(
    wanted: Sequence[Composition],
    found: Sequence[Composition],
    right: Bool[np.ndarray, " n"],
    pictures: UInt8[np.ndarray, "n h w 3"],
) -> Sheet:
    """Pairs of what came and a true render: each one judged wrong on a row of its own, then the others."""
    truths = true_pictures(wanted, pictures.shape[1])
    good = np.flatnonzero(right).tolist()
    groups = [[i] for i in np.flatnonzero(~right).tolist()]
    groups += [good[start : start + PAIRS_A_ROW] for start in range(0, len(good), PAIRS_A_ROW)]
    rows = [[picture for i in group for picture in (pictures[i], truths[i])] for group in groups]
    words = ["right" if right[i] else said(wanted[i], found[i], right[i]) for i, *_ in groups]
    return contact_sheet(rows, words, scale=2)


def clips_sheet(
    wanted: Sequence[Composition],
    found: Sequence[Composition],
    right: Bool[np.ndarray, " n"],
    clips: UInt8[np.ndarray, "n t h w 3"],
) -> Sheet:
    """For each clip, those judged wrong first, a row of its frames and a row of a true render's."""
    rows, words = [], []
    for i in wrong_first(right):
        truth = true_clip(wanted[i], clips.shape[1], clips.shape[2])
        shown = np.linspace(0, clips.shape[1] - 1, min(SHOWN_FRAMES, clips.shape[1])).round().astype(int)
        rows += [list(clips[i][shown]), list(truth[shown])]
        words += [said(wanted[i], found[i], right[i]), "a true render"]
    return contact_sheet(rows, words)


def wrong_first(right: Bool[np.ndarray, " n"]) -> list[int]:
    return [*np.flatnonzero(~right).tolist(), *np.flatnonzero(right).tolist()]


def said(wanted: Composition, found: Composition, right: bool | np.bool_) -> str:
    """What was asked and, where that is something else, what the judge saw."""
    return f"{wanted.caption()}: right" if right else f"{wanted.caption()} -> {found.caption()}"


def true_pictures(compositions: Sequence[Composition], size: int) -> UInt8[np.ndarray, "n h w 3"]:
    """A render of each, from where a picture of it may be taken."""
    frames = [random_still(c, np.random.default_rng([SEED, i])) for i, c in enumerate(compositions)]
    return render(frames, size).pixels.numpy()


def true_clip(composition: Composition, frames: int, size: int) -> UInt8[np.ndarray, "t h w 3"]:
    """A render of the motion; of two objects, which no motion of the world has, one picture in every frame."""
    if composition.other is not None:
        return np.repeat(true_pictures([composition], size), frames, axis=0)
    return render(random_clip(composition, np.random.default_rng(SEED), frames), size).pixels.numpy()

"""Clips of which frames are given, against true ones: what follows a first frame, and what lies between two ends.

Frames and the truth are renders of held-out clips, from where a clip of them may be taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from benchmarks.judge import Judge, judge_clips
from benchmarks.report import Row, mean, share
from benchmarks.truth.sheet import clips_sheet
from shared.artifacts.media import write_image
from video.generate import VideoModel, generate_clips
from video.recipe import TRAINED_FRAMES, ClipRecipe
from world.prompt import Composition
from world.render import render
from world.scene import random_clip

SEED = 77
SIZE = 64
Clips = UInt8[np.ndarray, "n t h w 3"]


def measure_given(
    judge: Judge, model: VideoModel, wanted: Sequence[Composition], out: Path | None, say: Callable[[str], None]
) -> list[Row]:
    """The asked motion and the given object, from a first frame; the middle frame, from both ends."""
    truths = true_clips(wanted)
    followed = made(model, wanted, truths, [0], say)
    verdict = judge_clips(judge, wanted, followed)
    right = np.asarray(verdict.motion & verdict.thing)
    between = made(model, wanted, truths, [0, TRAINED_FRAMES - 1], say)
    middle = TRAINED_FRAMES // 2
    weight = middle / (TRAINED_FRAMES - 1)
    blended = (1 - weight) * truths[:, 0].astype(float) + weight * truths[:, -1]
    ours, theirs = (psnr(frames, truths[:, middle]) for frames in (between[:, middle], blended))
    if out is not None:
        write_image(out / "given-first.png", clips_sheet(wanted, verdict.named, right, followed))
        write_image(out / "given-ends.png", clips_sheet(wanted, wanted, np.asarray(ours > theirs), between))
    return [
        share("first frame given, motion", verdict.motion),
        share("first frame given, object and colour kept", verdict.thing),
        share("first frame given, object kept and motion done", right, 0.80),
        mean("both ends given, PSNR of the middle frame, dB", ours),
        mean("both ends given, dB above linear blending", ours - theirs, 3.0),
    ]


def true_clips(wanted: Sequence[Composition]) -> Clips:
    """One render of each."""
    clips = [random_clip(c, np.random.default_rng([SEED, i]), TRAINED_FRAMES) for i, c in enumerate(wanted)]
    return np.stack([render(frames, SIZE).pixels.numpy() for frames in clips])


def made(
    model: VideoModel, wanted: Sequence[Composition], truths: Clips, frames: Sequence[int], say: Callable[[str], None]
) -> Clips:
    """A clip of each with these frames given; the i-th has seed i."""
    clips = []
    for seed, (composition, truth) in enumerate(zip(wanted, truths, strict=True)):
        recipe = ClipRecipe(prompt=composition.caption(), model=model.image.name, seed=seed)
        *_, last = generate_clips(model, [recipe], given={frame: truth[frame] for frame in frames})
        assert last.frames is not None
        clips.append(last.frames[0])
        say(f"  {seed + 1} of {len(wanted)} clips with {len(frames)} given frames")
    return np.stack(clips)


def psnr(pictures: np.ndarray, truths: np.ndarray) -> Float[np.ndarray, " n"]:
    """Of each picture, "n h w 3" in levels of 255; in decibels."""
    error = np.square(pictures.astype(float) - truths).mean(axis=(1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(error, 1e-6))

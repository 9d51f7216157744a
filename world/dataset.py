"""Draws labelled samples of the world and writes them in the layout that a user's own data has.

A data folder holds `captions.jsonl`, one JSON object a line with `file` and `caption` (and here the exact attributes),
beside the PNG pictures or MP4 clips that it names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from shared.artifacts.files import atomic_path
from shared.artifacts.media import write_clip, write_image
from shared.view_words import VIEW_WORDS
from world.prompt import (
    COLOUR_NAMES,
    KINDS,
    MOTIONS,
    OBJECT_NAMES,
    RELATIONS,
    SPLITS,
    SYNONYMS,
    Composition,
    Kind,
    is_held_out,
)
from world.render import render
from world.scene import Frame, objects_by_name, random_clip, random_start, random_still, random_views

CLIP_FPS = 8
CLIP_FRAMES = 16


@dataclass(frozen=True)
class Sample:
    """A composition, one way of saying it, and its pictures ("t h w 3"; t = 1 for a still)."""

    composition: Composition
    caption: str
    frames: tuple[Frame, ...]
    pixels: UInt8[np.ndarray, "t h w 3"]
    kind: Kind


def visible(obj: str, motion: str) -> bool:
    """Whether a motion of the object can be told from standing still: turning a round thing cannot."""
    return not (objects_by_name()[obj].round and motion in ("spinning", "orbit"))


def draw_composition(rng: np.random.Generator, *, kind: Kind, split: str = "train", pairs: float = 0.4) -> Composition:
    """A random composition of the wanted split. `pairs` of all stills and views show two objects, four in five of the
    other stills have view words: score distillation never asks without one.
    """
    while True:
        c = Composition(str(rng.choice(OBJECT_NAMES)), str(rng.choice(COLOUR_NAMES)))
        if kind in ("clips", "starts"):
            c = replace(c, motion=str(rng.choice(list(MOTIONS))))
            if not visible(c.obj, c.motion or ""):
                continue
        elif rng.random() < pairs:
            stackable = [o.name for o in objects_by_name().values() if o.pairs]
            obj, other = (str(name) for name in rng.choice(stackable, 2, replace=False))
            colour, other_colour = (str(name) for name in rng.choice(COLOUR_NAMES, 2, replace=False))
            c = Composition(obj, colour, None, None, str(rng.choice(RELATIONS)), other, other_colour)
        elif kind == "images" and rng.random() < 0.8:
            c = replace(c, view=str(rng.choice(VIEW_WORDS, p=[0.27, 0.27, 0.27, 0.19])))
        if split == "all" or is_held_out(c) == (split == "held-out"):
            return c


def say(c: Composition, rng: np.random.Generator) -> str:
    """The caption, now and then with a synonym."""
    text = c.caption()
    for word, meaning in SYNONYMS.items():
        if rng.random() < 0.3:
            text = text.replace(f" {meaning}", f" {word}")
    return text


def draw_samples(
    count: int,
    *,
    kind: Kind,
    seed: int,
    split: str = "train",
    size: int = 64,
    first: int = 0,
    frames: int = CLIP_FRAMES,
) -> Iterator[Sample]:
    """Samples `first` to `first + count` of the endless sequence that (seed, kind, split) names.

    frames: of a clip, where more of them show the same motion more finely, or views.
    """
    batch: list[tuple[Composition, str, list[Frame]]] = []
    for index in range(first, first + count):
        rng = np.random.default_rng([seed, KINDS.index(kind), SPLITS.index(split), index])
        c = draw_composition(rng, kind=kind, split=split)
        batch.append((c, say(c, rng), _taken(c, rng, kind, frames)))
        if len(batch) == _batch(kind) or index == first + count - 1:
            pixels = render([frame for _, _, taken in batch for frame in taken], size).pixels.numpy()
            start = 0
            for composition, caption, taken in batch:
                views = pixels[start : start + len(taken)]
                yield Sample(composition, caption, tuple(taken), views, kind)
                start += len(taken)
            batch = []


def _taken(c: Composition, rng: np.random.Generator, kind: Kind, frames: int) -> list[Frame]:
    if kind == "images":
        return [random_still(c, rng)]
    return {"clips": random_clip, "starts": random_start, "views": random_views}[kind](c, rng, frames)


def write_dataset(
    out: Path,
    count: int,
    *,
    kind: Kind,
    seed: int = 0,
    split: str = "train",
    size: int = 64,
    frames: int = CLIP_FRAMES,
    jobs: int = 1,
) -> Iterator[int]:
    """Writes `count` samples into the folder `out` and yields how many are done.

    jobs: processes that render; the files are the same for any number.
    """
    (out / kind).mkdir(parents=True, exist_ok=True)
    batch = _batch(kind)
    parts = [(first, min(batch, count - first)) for first in range(0, count, batch)]
    write = partial(_write_part, out, kind=kind, seed=seed, split=split, size=size, frames=frames)
    # Last of all: a data set that was cut short is not taken for a whole one.
    with atomic_path(out / "captions.jsonl") as temporary, open(temporary, "w", encoding="utf-8") as index:
        done = 0
        for lines in map(write, parts) if min(jobs, len(parts)) == 1 else _mapped(write, parts, jobs):
            index.writelines(lines)
            done += len(lines)
            yield done


def _write_part(
    out: Path, part: tuple[int, int], *, kind: Kind, seed: int, split: str, size: int, frames: int
) -> list[str]:
    """Writes the files of one batch (first, count); returns their lines of captions.jsonl."""
    first, count = part
    lines = []
    samples = draw_samples(count, kind=kind, seed=seed, split=split, size=size, first=first, frames=frames)
    for number, sample in enumerate(samples, start=first):
        name = f"{kind}/{number:06d}" + (".png" if kind == "images" else ".mp4")
        if kind != "images":
            write_clip(out / name, sample.pixels, CLIP_FPS)
        else:
            write_image(out / name, sample.pixels[0])
        lines.append(json.dumps({"file": name, **describe(sample)}) + "\n")
    return lines


def _mapped(
    write: Callable[[tuple[int, int]], list[str]], parts: list[tuple[int, int]], jobs: int
) -> Iterator[list[str]]:
    """`map(write, parts)` by processes of one thread each; those that wait are dropped where the caller stops."""
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(write, parts)
    finally:
        pool.shutdown(cancel_futures=True)


def _batch(kind: Kind) -> int:
    """Samples that are rendered at once."""
    return 128 if kind == "images" else 16


def describe(sample: Sample) -> dict[str, object]:
    """The caption and the exact attributes of a sample, for its line in captions.jsonl."""
    first = sample.frames[0]
    attributes = {k: v for k, v in asdict(sample.composition).items() if v is not None}
    if sample.kind == "views":
        cameras = [[round(frame.azimuth, 3), round(frame.elevation, 3)] for frame in sample.frames]
        return {"caption": sample.caption, **attributes, "cameras": cameras}
    camera = {"azimuth": round(first.azimuth, 3), "elevation": round(first.elevation, 3)}
    start = {"start": "given"} if sample.kind == "starts" else {}
    return {"caption": sample.caption, **attributes, **camera, **start}

"""Pictures that begin with one: an object painted into a hole, one painted beside, and others like it, as judged.

What they begin with are real renders of held-out compositions; the object that is asked for is another one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from benchmarks.judge import Judge, same_thing
from benchmarks.report import Row, mean, share
from benchmarks.truth.sheet import pictures_sheet
from shared.artifacts.media import write_image
from shared.images.generate import generate_image
from shared.images.recipe import ImageRecipe
from shared.models.image_model import ImageModel
from world.prompt import Composition
from world.render import render
from world.scene import random_still

SEED = 99
SIZE = 64
BORDER = 4  # pixels that a hole is wider than what was there, on each side
LIKE = 0.6  # strength of variations


def measure_edits(
    judge: Judge, model: ImageModel, wanted: Sequence[Composition], out: Path | None, say: Callable[[str], None]
) -> list[Row]:
    """wanted: what to paint; the pictures that it is painted into show those after the next."""
    there = [*wanted[2:], *wanted[:2]]
    pictures, holes = renders(there)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        inside = made(model, wanted, place, pictures, holes, say)
        wide = made(model, wanted, place, pictures, None, say, extend=f"right={SIZE}")
        like = made(model, there, place, pictures, None, say, strength=LIKE)
    beside = wide[:, :, SIZE:]
    rows = []
    for name, compositions, shown, aim in (
        ("inpainting, the object asked for is in the hole", wanted, inside, 0.70),
        ("outpainting, the object asked for is beside", wanted, beside, 0.70),
        ("variations, object and colour kept", there, like, 0.85),
    ):
        found = judge.look(shown).named()
        right = same_thing(compositions, found)
        rows.append(share(name, right, aim))
        if out is not None:
            write_image(out / f"{name.split(',')[0]}.png", pictures_sheet(compositions, found, right, shown))
    rest = [(a[~hole] != b[~hole]).mean() for a, b, hole in zip(inside, pictures, holes, strict=True)]
    rows.append(mean("inpainting, share of the rest's values that changed", rest, 0.0, at_most=True))
    return rows


def renders(compositions: Sequence[Composition]) -> tuple[UInt8[np.ndarray, "n h w 3"], Bool[np.ndarray, "n h w"]]:
    """One still of each, and the box around its object, wider by BORDER."""
    stills = [random_still(c, np.random.default_rng([SEED, i])) for i, c in enumerate(compositions)]
    seen = render(stills, SIZE)
    holes = np.zeros((len(stills), SIZE, SIZE), bool)
    for hole, cover in zip(holes, seen.mask.numpy(), strict=True):
        rows, columns = np.nonzero(cover)
        top, left = rows.min() - BORDER, columns.min() - BORDER
        hole[max(top, 0) : rows.max() + BORDER + 1, max(left, 0) : columns.max() + BORDER + 1] = True
    return seen.pixels.numpy(), holes


def made(
    model: ImageModel,
    wanted: Sequence[Composition],
    place: Path,
    pictures: UInt8[np.ndarray, "n h w 3"],
    holes: Bool[np.ndarray, "n h w"] | None,
    say: Callable[[str], None],
    **how: object,
) -> UInt8[np.ndarray, "n height width 3"]:
    """The i-th begins with the i-th picture and has seed i. how: further keys of the recipe."""
    results = []
    for seed, (asked, picture) in enumerate(zip(wanted, pictures, strict=True)):
        write_image(place / "picture.png", picture)
        keys = {"image": str(place / "picture.png"), "seed": seed, **how}
        if holes is not None:
            write_image(place / "mask.png", np.repeat(holes[seed][..., None], 3, axis=2).astype(np.uint8) * 255)
            keys["mask"] = str(place / "mask.png")
        for state in generate_image(model, ImageRecipe.parse({**keys, "prompt": asked.caption()})):
            last = state.images
        assert last is not None
        results.append(last[0])
    say(f"  {len(results)} pictures with {', '.join(how) or 'a hole'}")
    return np.stack(results)

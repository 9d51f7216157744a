"""Whether the embedded model learns an object that its world does not have from eight pictures, and what it forgets.

    python -m benchmarks.personalise --out RESULTS [--stage lora|dreambooth|textual-inversion] [--steps N] [--json]

The object is a cone that stands in a ring, with a ball on its tip. What is made of "a torcone" is compared, by the
features of the embedded scorer's image tower, with pictures that no training has seen: true renders of the new object
and of the world's 24, all in one colour, so that a colour alone decides nothing. A picture counts as the new object
where the nearest of all these is one of it. The same is asked of true renders first, which says how far that can be
trusted, and of the model before it was taught.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from benchmarks.report import Row, as_json, share, table
from shared.artifacts.contact_sheet import contact_sheet
from shared.artifacts.formats.image_file import write_image
from shared.images.generate import generate_images
from shared.images.recipe import ImageRecipe
from shared.models.clip_scorer import ClipScorer
from shared.models.image_model import ImageModel, load_image_model
from shared.models.source import WORLD
from shared.recipe import load_preset
from shared.training.personalise import low_rank, words
from shared.training.personalise.recipe import (
    ConceptRecipe,
    DreamboothTrainRecipe,
    LoraTrainRecipe,
    TextualInversionRecipe,
)
from shared.training.personalise.stage import train
from world import sdf
from world.objects import LIGHT, Part, WorldObject
from world.prompt import OBJECT_NAMES, Composition
from world.render import render
from world.scene import random_still

NAME, COLOUR = "torcone", "orange"
GIVEN = 8  # pictures that are learned from
MADE = 16
TRUE_NEW, TRUE_KNOWN = 16, 8  # renders to compare with: of the new object, and of each of the others
BATCH = 8
RECIPES: dict[str, type[ConceptRecipe]] = {
    "lora": LoraTrainRecipe, "dreambooth": DreamboothTrainRecipe, "textual-inversion": TextualInversionRecipe,
}  # fmt: skip

Pictures = UInt8[np.ndarray, "n h w 3"]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def torcone() -> WorldObject:
    """A ring, a cone that stands in it, and a ball on top."""
    ring, spike = sdf.torus(0.62, 0.2, (0, -0.62, 0)), sdf.cone(0.42, 0.0, 0.62, (0, 0.1, 0))
    ball = Part(sdf.sphere(0.18, (0, 0.75, 0)), LIGHT)
    return WorldObject(NAME, (Part(sdf.union(ring, spike)), ball), -0.82, 0.93, 0.82, round=True)


def renders(name: str, count: int, seed: int) -> Pictures:
    """True pictures of an object in COLOUR, alone, from anywhere."""
    draw = np.random.default_rng([seed, len(name), *name.encode()])
    return render(
        [random_still(Composition(name, COLOUR), draw) for _ in range(count)], more=[torcone()]
    ).pixels.numpy()


def made(model: ImageModel, prompts: Sequence[str], seeds: Sequence[int]) -> Pictures:
    """A picture of each prompt."""
    found = []
    for start in range(0, len(prompts), BATCH):
        batch = list(prompts[start : start + BATCH]), list(seeds[start : start + BATCH])
        last = deque(generate_images(model, *batch, ImageRecipe(prompt="each")), maxlen=1)[0]
        assert last.images is not None
        found.append(last.images)
    return np.concatenate(found)


class Judge:
    """Says what a picture is nearest to, among true renders that it keeps."""

    def __init__(self) -> None:
        self.scorer = ClipScorer.from_folder(WORLD)
        kept = {NAME: renders(NAME, TRUE_NEW, 1), **{name: renders(name, TRUE_KNOWN, 1) for name in OBJECT_NAMES}}
        self.names = [name for name, pictures in kept.items() for _ in pictures]
        self.features: Float[Tensor, "n d"] = torch.cat([self.scorer.image_features(p) for p in kept.values()])

    def nearest(self, pictures: Pictures) -> list[str]:
        """The object of the nearest render, for each picture."""
        return [self.names[i] for i in (self.scorer.image_features(pictures) @ self.features.T).argmax(dim=1).tolist()]


def teach(recipe: ConceptRecipe, data: Path, out: Path) -> float:
    """Trains, and tells of it; the seconds that it took."""
    started = time.perf_counter()
    for state in train(recipe, data, out):
        if state.step % 50 == 0 or state.step == state.total:
            say(f"{state.step}/{state.total} loss {state.loss:.4f}, {time.perf_counter() - started:.0f} s")
    return time.perf_counter() - started


def measure(stage: str, out: Path, changes: dict[str, object]) -> list[Row]:
    """The rows of the table; torcone.png, what was given above what was made, is in `out`."""
    own = {"class_prompt": f"a {COLOUR} cone"} if stage == "dreambooth" else {}
    recipe = RECIPES[stage].parse({**load_preset("train", stage), "concept": NAME, **own, **changes})
    given = renders(NAME, GIVEN, 0)
    with tempfile.TemporaryDirectory() as folder:
        for index, picture in enumerate(given):
            write_image(Path(folder) / f"{index}.png", picture)
        seconds = teach(recipe, Path(folder), out)
    lora = [str(out / low_rank.FILE)] if (out / low_rank.FILE).is_file() else []
    taught = load_image_model("world", lora=lora, embeddings=[str(out / words.FILE)])
    judge = Judge()
    new = made(taught, [f"a {NAME}"] * MADE, range(MADE))
    others = [f"a {COLOUR} {name}" for name in OBJECT_NAMES]
    before = load_image_model("world")
    same = made(before, [f"a {NAME}"] * MADE, range(MADE))
    write_image(out / f"{NAME}.png", contact_sheet(
        [list(given), list(new[: MADE // 2]), list(new[MADE // 2 :])], ["given", f"made of: a {NAME}", ""], scale=2
    ))  # fmt: skip
    known = np.concatenate([renders(name, 2, 2) for name in OBJECT_NAMES])
    return [
        share("true renders of the new object, nearest to it", is_new(judge.nearest(renders(NAME, MADE, 2)))),
        share("true renders of others, not nearest to it", [name != NAME for name in judge.nearest(known)]),
        share("before: made of its name, nearest to it", is_new(judge.nearest(same))),
        share("made of its name, nearest to it", is_new(judge.nearest(new)), aim=0.75),
        share("before: the 24 others, nearest to what was asked", right(judge, before, others)),
        share("the 24 others, nearest to what was asked", right(judge, taught, others)),
        Row("minutes of training", seconds / 60, 1, seconds / 60, seconds / 60, aim=10, at_most=True),
    ]  # fmt: skip


def is_new(names: Sequence[str]) -> list[bool]:
    return [name == NAME for name in names]


def right(judge: Judge, model: ImageModel, prompts: Sequence[str]) -> list[bool]:
    """Whether what is made of "... OBJECT" is nearest to that object."""
    nearest = judge.nearest(made(model, prompts, range(len(prompts))))
    return [prompt.endswith(f" {name}") for prompt, name in zip(prompts, nearest, strict=True)]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", choices=list(RECIPES), default="lora")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = measure(args.stage, args.out, {} if args.steps is None else {"steps": args.steps})
    print(as_json(rows) if args.json else table(rows))
    return rows


if __name__ == "__main__":
    main()

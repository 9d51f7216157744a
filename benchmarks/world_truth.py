"""How often the model makes what it is asked for, on compositions that its training never saw.

    python -m benchmarks.world_truth [--only images pairs clips pair-clips given edits assets pair-assets] [--quick]
                                     [--seeds N] [--json] [--out DIR] [--model FOLDER] [--clip KEY=VALUE ...]

Prompts are a fixed list, drawn once by seed. What pictures and clips show is named by a judge that was trained on
renders alone (benchmarks/judge.py), whose own accuracy on real renders comes first: no model can look better than its
judge sees. Assets are measured against exact world geometry (benchmarks/asset_truth.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from benchmarks.asset_truth import measure_assets, measure_pair_assets
from benchmarks.judge import WINDOW, ClipVerdict, Judge, check, judge_clips, same_pair, same_thing
from benchmarks.report import Row, as_json, mean, medians, share, table
from benchmarks.truth.edits import measure_edits
from benchmarks.truth.given import measure_given
from benchmarks.truth.sheet import clips_sheet, pictures_sheet
from shared.artifacts.files import write_bytes
from shared.artifacts.media import write_image
from shared.errors import KinoformError
from shared.images.generate import generate_images
from shared.images.recipe import ImageRecipe
from shared.models.image_model import ImageModel, load_image_model
from shared.version import VERSION
from video.generate import VideoModel, generate_clips, load_video_model
from video.recipe import ClipRecipe
from world.dataset import draw_composition
from world.prompt import COLOUR_NAMES, KINDS, MOTIONS, OBJECT_NAMES, Composition, Kind, is_held_out

SEED = 2_024
COUNTS = {
    "images": 96, "pairs": 64, "clips": 60, "pair-clips": 24, "given": 30, "edits": 50, "assets": 12, "pair-assets": 6,
}  # fmt: skip
PARTS = tuple(COUNTS)
QUICK = 6  # --quick divides the counts by this
SEEDS = 3  # of clips
IMAGES_A_BATCH, CLIPS_A_BATCH = 24, 4
# Seen from the side, so that what is named can be seen; a view word in half of the prompts.
VIEWS = (None, "front view", None, "side view")
CORNER = 6  # pixels along each side
PICTURE = ImageRecipe(prompt="given with each picture")
CLIP = ClipRecipe(prompt="given with each clip")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def single_compositions(count: int) -> list[Composition]:
    """Objects in the one colour that each was never seen in, in a shuffled order, view words in turn."""
    unseen = [
        Composition(obj, colour)
        for obj in OBJECT_NAMES
        for colour in COLOUR_NAMES
        if is_held_out(Composition(obj, colour))
    ]
    order = np.random.default_rng(SEED).permutation(len(unseen))
    rounds = range(-(-count // len(unseen)))
    views = [[VIEWS[(i + turn) % len(VIEWS)] for i in range(len(unseen))] for turn in rounds]
    drawn = [replace(unseen[j], view=views[turn][i]) for turn in rounds for i, j in enumerate(order)]
    return drawn[:count]


def drawn_compositions(count: int, kind: Kind) -> list[Composition]:
    """Held-out clips, or held-out pairs."""
    rng = np.random.default_rng([SEED, KINDS.index(kind)])
    return [draw_composition(rng, kind=kind, split="held-out", pairs=1.0) for _ in range(count)]


def make_pictures(
    model: ImageModel, wanted: Sequence[Composition], recipe: ImageRecipe = PICTURE
) -> UInt8[np.ndarray, "n h w 3"]:
    """One picture of each, with the recipe's own defaults; the i-th has seed i."""
    prompts = [c.caption() for c in wanted]
    made: list[np.ndarray] = []
    for start in range(0, len(prompts), IMAGES_A_BATCH):
        batch = prompts[start : start + IMAGES_A_BATCH]
        for state in generate_images(model, batch, list(range(start, start + len(batch))), recipe):
            last = state.images
        assert last is not None
        made.append(last)
        say(f"  {start + len(batch)} of {len(prompts)} pictures")
    return np.concatenate(made)


def make_clips(
    model: VideoModel, wanted: Sequence[Composition], first_seed: int = 0, recipe: ClipRecipe = CLIP
) -> UInt8[np.ndarray, "n t h w 3"]:
    """One clip of each by `recipe` but for its prompt; the i-th has seed `first_seed` + i."""
    made: list[np.ndarray] = []
    for start in range(0, len(wanted), CLIPS_A_BATCH):
        batch = wanted[start : start + CLIPS_A_BATCH]
        recipes = [
            recipe.model_copy(update={"prompt": c.caption(), "model": model.image.name, "seed": first_seed + start + i})
            for i, c in enumerate(batch)
        ]
        for state in generate_clips(model, recipes):
            last = state.frames
        assert last is not None
        made.append(last)
        say(f"  {start + len(batch)} of {len(wanted)} clips")
    return np.concatenate(made)


def measure_images(judge: Judge, model: ImageModel, count: int, out: Path | None) -> list[Row]:
    wanted = single_compositions(count)
    pictures = make_pictures(model, wanted)
    verdict = judge.look(pictures)
    found = verdict.named()
    right = same_thing(wanted, found)
    if out is not None:
        write_image(out / "images.png", pictures_sheet(wanted, found, right, pictures))
    return [
        share("images, object", [w.obj == f.obj for w, f in zip(wanted, found, strict=True)]),
        share("images, colour", [w.colour == f.colour for w, f in zip(wanted, found, strict=True)]),
        share("images, object and colour", right, 0.95),
    ]


def measure_pairs(judge: Judge, model: ImageModel, count: int, out: Path | None) -> list[Row]:
    wanted = drawn_compositions(count, "images")
    pictures = make_pictures(model, wanted)
    found = judge.look(pictures).named()
    right = same_pair(wanted, found)
    if out is not None:
        write_image(out / "pairs.png", pictures_sheet(wanted, found, right, pictures))
    both = list(zip(wanted, found, strict=True))
    return [
        share("two objects, both objects", [(w.obj, w.other) == (f.obj, f.other) for w, f in both]),
        share("two objects, both colours", [(w.colour, w.other_colour) == (f.colour, f.other_colour) for w, f in both]),
        share("two objects, relation", [w.relation == f.relation for w, f in both]),
        share("two objects, everything", right, 0.75),
    ]


def measure_clips(
    judge: Judge, model: VideoModel, recipe: ClipRecipe, count: int, seeds: int, out: Path | None
) -> list[Row]:
    """Medians over `seeds` rounds of the same prompts."""
    wanted = drawn_compositions(count, "clips")
    rounds = []
    for turn in range(seeds):
        clips = make_clips(model, wanted, turn * count, recipe)
        verdict = judge_clips(judge, wanted, clips)
        right = np.asarray(verdict.motion & verdict.thing)
        if out is not None:
            write_image(out / f"clips-{turn}.png", clips_sheet(wanted, verdict.named, right, clips))
        rounds.append(clip_rows(wanted, verdict, right, clips))
    return medians(rounds)


def measure_pair_clips(judge: Judge, model: VideoModel, recipe: ClipRecipe, count: int, out: Path | None) -> list[Row]:
    """Two objects that stand still, which the training's clips never show."""
    wanted = [replace(c, motion="still") for c in drawn_compositions(count, "images")]
    clips = make_clips(model, wanted, recipe=recipe)
    verdict = judge_clips(judge, wanted, clips)
    right = np.asarray(verdict.motion & verdict.thing)
    if out is not None:
        write_image(out / "pair-clips.png", clips_sheet(wanted, verdict.named, right, clips))
    return [
        share("clips of two objects, objects, colours and relation", verdict.thing),
        share("clips of two objects, everything, and they stand still", right, 0.70),
    ]


def clip_rows(
    wanted: Sequence[Composition], verdict: ClipVerdict, right: np.ndarray, clips: UInt8[np.ndarray, "n t h w 3"]
) -> list[Row]:
    by_motion = {motion: [i for i, c in enumerate(wanted) if c.motion == motion] for motion in MOTIONS}
    return [
        share("clips, motion", verdict.motion),
        *(share(f"clips, motion: {name}", verdict.motion[which]) for name, which in by_motion.items() if which),
        share("clips, object and colour", verdict.thing),
        share("clips, object, colour and motion", right, 0.80),
        share(f"clips, identity kept (right in every {WINDOW} frames)", verdict.every_window, 0.90),
        share("clips, identity kept (right in each frame alone)", np.asarray(verdict.frames.all(axis=1)), 0.90),
        mean("clips, share of frames with object and colour right", verdict.frames.mean(axis=1)),
        mean("clips, flicker of the background, levels of 255", flicker(clips)),
    ]


def flicker(clips: UInt8[np.ndarray, "n t h w 3"]) -> Float[np.ndarray, " n"]:
    """How far the background's level moves from one frame to the next, on average; 0 in every clip of the world.

    The background is looked at in the upper corners, which no object reaches.
    """
    corners = np.concatenate([clips[:, :, :CORNER, :CORNER], clips[:, :, :CORNER, -CORNER:]], axis=3)
    return np.abs(np.diff(corners.mean(axis=(2, 3, 4)), axis=1)).mean(axis=1)


def below(out: Path | None, name: str) -> Path | None:
    """A folder of its own in `out`, where there is that."""
    if out is not None:
        (out / name).mkdir(exist_ok=True)
        return out / name
    return None


def run(
    judge: Judge,
    source: str,
    only: Sequence[str],
    counts: dict[str, int],
    seeds: int,
    out: Path | None,
    recipe: ClipRecipe = CLIP,
) -> list[Row]:
    """All rows, the judge's own first. recipe: of clips."""
    say("judging real renders")
    rows, _ = check(judge, 0.5)
    image = load_image_model(source)
    video = load_video_model(source) if {"clips", "pair-clips", "given"} & {*only} else None
    parts: dict[str, Callable[[], list[Row]]] = {
        "images": lambda: measure_images(judge, image, counts["images"], out),
        "pairs": lambda: measure_pairs(judge, image, counts["pairs"], out),
        "clips": lambda: measure_clips(judge, video, recipe, counts["clips"], seeds, out) if video else [],
        "pair-clips": lambda: measure_pair_clips(judge, video, recipe, counts["pair-clips"], out) if video else [],
        "given": lambda: (
            measure_given(judge, video, drawn_compositions(counts["given"], "clips"), out, say) if video else []
        ),
        "edits": lambda: measure_edits(judge, image, single_compositions(counts["edits"]), out, say),
        "assets": lambda: measure_assets(judge, image, single_compositions(counts["assets"]), out, say),
        "pair-assets": lambda: measure_pair_assets(
            judge, image, drawn_compositions(counts["pair-assets"], "images"), below(out, "pairs"), say
        ),
    }
    for name in PARTS:
        if name in only:
            started = time.monotonic()
            say(f"{name}: {counts[name]}")
            rows += parts[name]()
            say(f"{name} took {time.monotonic() - started:.0f} s")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.world_truth", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--count", type=int, metavar="N", help=f"samples of each part (default: {', '.join(map(str, COUNTS.values()))})"
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help=f"rounds of clips, of which medians count (default {SEEDS})"
    )
    parser.add_argument("--quick", action="store_true", help=f"a {QUICK}th of everything, clips once")
    parser.add_argument("--model", default="world", help="world or a model folder")
    parser.add_argument(
        "--clip", nargs="+", default=[], metavar="KEY=VALUE", help="of the recipe of clips and pair-clips"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write contact sheets, meshes and results here")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of the table")
    args = parser.parse_args()
    counts = {name: args.count or max(1, n // (QUICK if args.quick else 1)) for name, n in COUNTS.items()}
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    try:
        seeds = args.seeds or (1 if args.quick else SEEDS)
        changed = dict(setting.partition("=")[::2] for setting in args.clip)
        recipe = ClipRecipe.parse({"prompt": CLIP.prompt, **changed})
        rows = run(Judge.load(), args.model, args.only, counts, seeds, args.out, recipe)
    except KinoformError as error:
        say(f"error: {error}")
        return error.exit_code
    result = as_json(
        rows, model=args.model, clip=changed, seed=SEED, seeds=seeds, version=VERSION, date=date.today().isoformat()
    )
    if args.out is not None:
        write_bytes(args.out / "world_truth.json", f"{result}\n".encode())
    print(result if args.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

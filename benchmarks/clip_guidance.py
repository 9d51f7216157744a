"""What `--clip-guidance` does to the embedded model's pictures: likeness by the scorer, and what the judge names.

    python -m benchmarks.clip_guidance [--count 12] [--weights 0 30 100 300] [--judge benchmarks/judge.safetensors]

Held-out compositions of one object, the same seeds for every weight. The scorer that guides is the one that measures
likeness, so that this must rise; whether the pictures are better the judge says, who saw renders alone. Without
weights of a judge there are no such columns.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.judge import WEIGHTS, Judge, same_thing
from benchmarks.world_truth import make_pictures, single_compositions
from shared.images.recipe import ImageRecipe
from shared.models.clip_scorer import ClipScorer
from shared.models.image_model import load_image_model
from shared.models.source import WORLD

COLUMNS = ("`--clip-guidance`", "similarity", "object and colour right", "seconds a picture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=12, help="prompts")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 30.0, 100.0, 300.0])
    parser.add_argument("--guidance-scale", type=float, default=ImageRecipe(prompt="a").guidance_scale)
    parser.add_argument("--judge", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    wanted = single_compositions(args.count)
    model, scorer = load_image_model("world"), ClipScorer.from_folder(WORLD)
    judge = Judge.load(args.judge) if args.judge.is_file() else None
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    for weight in args.weights:
        recipe = ImageRecipe(prompt="a", clip_guidance=weight, guidance_scale=args.guidance_scale)
        start = time.perf_counter()
        pictures = make_pictures(model, wanted, recipe)
        seconds = (time.perf_counter() - start) / args.count
        pairs = zip(pictures, wanted, strict=True)
        likeness = [scorer.score(picture[None], composition.caption()) for picture, composition in pairs]
        right = "" if judge is None else f"{sum(same_thing(wanted, judge.look(pictures).named()))} of {args.count}"
        rows.append((f"{weight:g}", f"{np.mean(likeness):.3f}", right, f"{seconds:.1f}"))
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    main()

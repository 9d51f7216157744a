"""Whether a model trained on one's own clips shows what their captions say, on frames that its training never saw.

    python -m benchmarks.own_data split --data CLIPS --out TRAINING_DATA
    kinoform train all --data TRAINING_DATA --out MODEL
    python -m benchmarks.own_data check --data CLIPS --model MODEL --out RESULTS [--json]

The split leaves out the last quarter of every clip's frames. The check first asks the model's scorer for the captions
of those: it must know real frames it has not seen before it may judge. Then it makes one clip for every caption and
looks for its caption among all, by the scorer, and by plain pixels against the frames left out, which knows nothing
of the model. With one clip a caption this shows that the model answers to its captions; not that it can do more.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from benchmarks.report import Row, as_json, mean, share, table
from shared.artifacts.contact_sheet import contact_sheet
from shared.artifacts.formats.image_file import write_image
from shared.artifacts.media import Clip, read_clip, write_clip
from shared.artifacts.pixels import from_uint8, to_uint8
from shared.errors import InputError
from shared.models.clip_scorer import ClipScorer
from shared.training.data.groups import find_folders
from video.generate import generate_clips, load_video_model
from video.recipe import ClipRecipe

TRAINED_SHARE = 0.75  # of each clip's frames, from the first on
CLIPS_A_BATCH = 4
PIXEL_SIDE = 16  # of the pictures that pixels are compared in
SHEET_COLUMNS = 8
STRIPS, STRIP_FRAMES = 10, 8


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def clips_of(data: Path) -> list[tuple[Path, str]]:
    """Files and captions of the clips below `data`; the first clip of each caption."""
    found: dict[str, Path] = {}
    for group in find_folders(data):
        if group.kind == "clip":
            for entry in group.entries:
                found.setdefault(entry["caption"], group.folder / entry["file"])
    if len(found) < 2:
        raise InputError("data", expected="clips with two captions or more", got=len(found))
    return [(file, caption) for caption, file in found.items()]


def split(data: Path, out: Path) -> int:
    """Writes the first frames of every clip, and captions.jsonl; returns how many clips there are."""
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    clips = clips_of(data)
    for number, (file, caption) in enumerate(clips):
        clip = read_clip(file)
        name = f"{number:04d}.mp4"
        write_clip(out / name, clip.frames[: trained_frames(clip)], clip.fps)
        lines.append(json.dumps({"file": name, "caption": caption}, ensure_ascii=False) + "\n")
    (out / "captions.jsonl").write_text("".join(lines), encoding="utf-8")
    return len(clips)


def trained_frames(clip: Clip) -> int:
    return max(1, int(TRAINED_SHARE * len(clip.frames)))


def held_out(file: Path, size: int) -> UInt8[np.ndarray, "t h w 3"]:
    """The frames that training has not seen, their middle squares in the model's size."""
    clip = read_clip(file)
    frames = clip.frames[trained_frames(clip) :]
    if not len(frames):
        raise InputError(f"clip {file}", expected="4 frames or more", got=len(clip.frames))
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pixels = from_uint8(frames[:, top : top + side, left : left + side])
    return to_uint8(F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True))


def make_clips(model: Path, captions: Sequence[str], recipe: ClipRecipe) -> list[UInt8[np.ndarray, "t h w 3"]]:
    """A clip of each caption, the i-th with seed i."""
    loaded = load_video_model(model)
    made: list[np.ndarray] = []
    for start in range(0, len(captions), CLIPS_A_BATCH):
        batch = [
            recipe.model_copy(update={"prompt": caption, "seed": start + i})
            for i, caption in enumerate(captions[start : start + CLIPS_A_BATCH])
        ]
        frames = deque(generate_clips(loaded, batch), maxlen=1)[0].frames
        assert frames is not None
        made += list(frames)
        say(f"clips: {len(made)}/{len(captions)}")
    return made


def ranks(similarity: Float[Tensor, "n n"]) -> list[int]:
    """How many others come before the right one, for each row; 0 is found at once. Equals count against it."""
    right = similarity.diagonal()[:, None]
    return ((similarity >= right).sum(dim=1) - 1).tolist()


def scored(scorer: ClipScorer, clips: Sequence[np.ndarray], captions: list[str]) -> Float[Tensor, "n n"]:
    """Similarity of every clip (rows) with every caption: the mean of its frames'."""
    texts = scorer.conditioner.features(captions)
    return torch.stack([(scorer.image_features(clip) @ texts.T).mean(dim=0) for clip in clips])


def pixels_alike(made: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> Float[Tensor, "n n"]:
    """Minus the smallest squared distance of a frame of a clip (rows) to any of the frames left out of another."""

    def small(frames: np.ndarray) -> Tensor:
        return F.adaptive_avg_pool2d(from_uint8(frames), PIXEL_SIDE).flatten(1)

    there = [small(frames) for frames in real]
    return torch.stack([torch.stack([-torch.cdist(small(m), r).square().min() for r in there]) for m in made])


def motion(frames: np.ndarray) -> float:
    """Mean change of a pixel from one frame to the next, in levels of 255."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean())


def found_rows(name: str, similarity: Float[Tensor, "n n"]) -> list[Row]:
    places = ranks(similarity)
    return [
        share(f"{name}, caption found first", [rank == 0 for rank in places]),
        share(f"{name}, caption among the first five", [rank < 5 for rank in places]),
    ]


def check(data: Path, model: Path, recipe: ClipRecipe, out: Path) -> list[Row]:
    """The rows of the table; clips.png and strips.png are in `out`."""
    clips = clips_of(data)
    captions = [caption for _, caption in clips]
    scorer = ClipScorer.from_folder(model)
    made = make_clips(model, captions, recipe)
    real = [held_out(file, made[0].shape[1]) for file, _ in clips]
    by_scorer = scored(scorer, made, captions)
    wrong = by_scorer[~torch.eye(len(clips), dtype=torch.bool)]
    rows = [
        *found_rows("frames left out, by the scorer", scored(scorer, real, captions)),
        *found_rows("made clips, by the scorer", by_scorer),
        mean("made clips, similarity with their caption", by_scorer.diagonal().numpy()),
        mean("made clips, similarity with other captions", wrong.numpy()),
        *found_rows("made clips, by pixels of the frames left out", pixels_alike(made, real)),
        mean("made clips, change from frame to frame (levels)", [motion(clip) for clip in made]),
        mean("frames left out, change from frame to frame (levels)", [motion(clip) for clip in real]),
    ]
    out.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(made), SHEET_COLUMNS)
    pictures = [[clip[len(clip) // 2] for clip in made[i : i + SHEET_COLUMNS]] for i in starts]
    write_image(
        out / "clips.png", contact_sheet(pictures, [" | ".join(captions[i : i + SHEET_COLUMNS]) for i in starts])
    )
    shown = [i * len(made) // STRIPS for i in range(min(STRIPS, len(made)))]
    strips = [list(made[i][:: max(1, len(made[i]) // STRIP_FRAMES)]) for i in shown]
    write_image(out / "strips.png", contact_sheet(strips, [captions[i] for i in shown]))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("split", "check"):
        action = actions.add_parser(name)
        action.add_argument("--data", type=Path, required=True)
        action.add_argument("--out", type=Path, required=True)
    action.add_argument("--model", type=Path, required=True)
    action.add_argument("--steps", type=int, default=ClipRecipe.model_fields["steps"].default)
    action.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    if args.action == "split":
        print(f"{split(args.data, args.out)} clips in {args.out}")
        return
    started = time.perf_counter()
    rows = check(args.data, args.model, ClipRecipe(prompt="of each", steps=args.steps), args.out)
    seconds = round(time.perf_counter() - started, 1)
    print(as_json(rows, model=str(args.model), steps=args.steps, seconds=seconds) if args.json else table(rows))


if __name__ == "__main__":
    main()

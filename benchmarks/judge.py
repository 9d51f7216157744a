"""Names what a picture or a clip shows: object, colour, relation, motion. It never saw a generated one.

    python -m benchmarks.judge --train     render the world, train (10 minutes on 2 cores), write judge.safetensors
    python -m benchmarks.judge --check     how often it is right on renders that it has not seen

World benchmarks believe this judge, so its own accuracy on real renders is printed before their numbers.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.report import Row, as_json, share, table
from benchmarks.truth.judge_networks import CLIP_FRAMES, CLIP_SIZE, PICTURE_SIZE, MotionNetwork, PictureNetwork
from shared.artifacts.files import atomic_path
from shared.artifacts.pixels import from_uint8
from shared.errors import InputError, ModelError
from world.dataset import Sample, draw_samples
from world.prompt import COLOUR_NAMES, MOTIONS, OBJECT_NAMES, RELATIONS, Composition, Kind

WEIGHTS = Path(__file__).resolve().parent / "judge.safetensors"
CHECK_SEED = 90_001
ZOOMS = (1.0, 0.9, 1.1)  # a picture is judged at these sizes, and the answers averaged
BATCH = 128
WINDOW = 4  # frames that are judged together when identity is followed through a clip


@dataclass(frozen=True)
class Verdict:
    """Probabilities of the answers to every question about n pictures, "n answers" each (see HEADS)."""

    obj: Float[np.ndarray, "n objects"]
    colour: Float[np.ndarray, "n colours"]
    relation: Float[np.ndarray, "n relations"]
    other: Float[np.ndarray, "n objects"]
    other_colour: Float[np.ndarray, "n colours"]

    def __len__(self) -> int:
        return len(self.obj)

    def named(self) -> list[Composition]:
        """The likeliest answers as compositions, with a second object where a relation is seen."""
        found = []
        for i in range(len(self)):
            relation = int(self.relation[i].argmax())
            first = OBJECT_NAMES[self.obj[i].argmax()], COLOUR_NAMES[self.colour[i].argmax()]
            second = OBJECT_NAMES[self.other[i].argmax()], COLOUR_NAMES[self.other_colour[i].argmax()]
            if relation:
                found.append(Composition(*first, None, None, RELATIONS[relation - 1], *second))
            else:
                found.append(Composition(*first))
        return found

    def merged(self, groups: Sequence[Sequence[int]]) -> Verdict:
        """One verdict for each group of pictures of the same thing: the product of their probabilities."""
        merged = {}
        for name, p in vars(self).items():
            logs = np.stack([np.log(p[list(group)] + 1e-6).sum(axis=0) for group in groups])
            unnormalised = np.exp(logs - logs.max(axis=1, keepdims=True))
            merged[name] = (unnormalised / unnormalised.sum(axis=1, keepdims=True)).astype(np.float32)
        return Verdict(**merged)


class Judge:
    """Both networks, in single precision."""

    def __init__(self, picture: PictureNetwork, motion: MotionNetwork) -> None:
        self.networks = nn.ModuleDict({"picture": picture, "motion": motion}).float().eval()

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Judge:
        """Raises ModelError where there are no weights."""
        if not path.is_file():
            raise ModelError("judge", expected=str(path), got="none", hint="Run python -m benchmarks.judge --train")
        judge = cls(PictureNetwork(), MotionNetwork())
        judge.networks.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=True)
        return judge

    def save(self, path: Path = WEIGHTS) -> None:
        """Half precision; the counters of normalisation layers are of no use here and become halves too."""
        state = {k: v.half().contiguous() for k, v in self.networks.state_dict().items()}
        with atomic_path(path) as temporary:
            save_file(state, temporary)

    @torch.no_grad()
    def look(self, pictures: UInt8[np.ndarray, "n h w 3"]) -> Verdict:
        """What each picture shows; square ones of any size."""
        answers: dict[str, list[Tensor]] = {}
        for part in _pixels(pictures, PICTURE_SIZE).split(BATCH):
            zoomed = [self.networks["picture"](_zoom(part, zoom)) for zoom in ZOOMS]
            for name in zoomed[0]:
                p = torch.stack([F.softmax(logits[name].float(), dim=-1) for logits in zoomed]).mean(dim=0)
                answers.setdefault(name, []).append(p)
        return Verdict(**{name: torch.cat(parts).numpy() for name, parts in answers.items()})

    @torch.no_grad()
    def watch(self, clips: UInt8[np.ndarray, "n t h w 3"]) -> list[str]:
        """The motion of each clip of 16 frames, a key of MOTIONS."""
        if clips.shape[1] != CLIP_FRAMES:
            raise InputError("clip to judge", expected=f"{CLIP_FRAMES} frames", got=clips.shape[1])
        names = list(MOTIONS)
        found = []
        for start in range(0, len(clips), BATCH):
            part = clips[start : start + BATCH]
            small = _pixels(part.reshape(-1, *part.shape[2:]), CLIP_SIZE).view(len(part), CLIP_FRAMES, 3, CLIP_SIZE, -1)
            found += [names[i] for i in self.networks["motion"](small).argmax(dim=-1).tolist()]
        return found


def _pixels(pictures: UInt8[np.ndarray, "n h w 3"], size: int) -> Float[Tensor, "n 3 h w"]:
    """In [0, 1], resized."""
    pixels = (from_uint8(pictures) + 1) / 2
    if pixels.shape[-2:] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return pixels


def _zoom(pixels: Float[Tensor, "n 3 h w"], zoom: float) -> Float[Tensor, "n 3 h w"]:
    if zoom == 1:
        return pixels
    theta = torch.tensor([[[1 / zoom, 0, 0], [0, 1 / zoom, 0]]]).expand(len(pixels), 2, 3)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def same_thing(wanted: Sequence[Composition], found: Sequence[Composition]) -> np.ndarray:
    """Whether object and colour are both right, and nothing is beside it."""
    both = zip(wanted, found, strict=True)
    return np.array([(w.obj, w.colour) == (f.obj, f.colour) and f.other is None for w, f in both], dtype=bool)


def same_pair(wanted: Sequence[Composition], found: Sequence[Composition]) -> np.ndarray:
    """Whether relation, both objects and both colours are right."""
    return np.array([w.without_view() == f for w, f in zip(wanted, found, strict=True)], dtype=bool)


def as_asked(wanted: Sequence[Composition], found: Sequence[Composition]) -> np.ndarray:
    """`same_pair` of what has two objects, `same_thing` of what has one; whatever moves."""
    still = [replace(w, motion=None) for w in wanted]
    pairs = np.array([w.other is not None for w in wanted], dtype=bool)
    return np.where(pairs, same_pair(still, found), same_thing(still, found))


@dataclass(frozen=True)
class ClipVerdict:
    """For each of n clips: what is seen in it; motion right; what is there right (`as_asked`) from all frames together,
    in every window of WINDOW frames, and in each single frame ("n t").
    """

    named: list[Composition]
    motion: np.ndarray
    thing: np.ndarray
    every_window: np.ndarray
    frames: np.ndarray


def judge_clips(judge: Judge, wanted: Sequence[Composition], clips: UInt8[np.ndarray, "n t h w 3"]) -> ClipVerdict:
    n, t = clips.shape[:2]
    motions = judge.watch(clips)
    motion = np.array([w.motion == name for w, name in zip(wanted, motions, strict=True)], dtype=bool)
    frames = judge.look(clips.reshape(n * t, *clips.shape[2:]))
    whole = frames.merged([range(i * t, (i + 1) * t) for i in range(n)])
    windows = frames.merged([range(start, start + WINDOW) for start in range(0, n * t, WINDOW)])
    each = [w for w in wanted for _ in range(t)]
    in_windows = as_asked(each[::WINDOW], windows.named()).reshape(n, -1)
    in_frames = as_asked(each, frames.named()).reshape(n, t)
    things = whole.named()
    named = [replace(thing, motion=name) for thing, name in zip(things, motions, strict=True)]
    return ClipVerdict(named, motion, as_asked(wanted, things), np.asarray(in_windows.all(axis=1)), in_frames)


def check(judge: Judge, scale: float = 1.0) -> tuple[list[Row], list[str]]:
    """Accuracy on real renders that the judge has not seen, half of them of compositions held out of all training; and
    the commonest mistakes about objects seen from the side.
    """
    stills = _drawn(round(1000 * scale), "images")
    wanted = [s.composition for s in stills]
    verdict = judge.look(np.stack([s.pixels[0] for s in stills]))
    found = verdict.named()
    single = np.array([w.relation is None for w in wanted])
    overhead = np.array([s.frames[0].elevation > 60 for s in stills])
    side = single & ~overhead
    right = {
        "object": np.array([w.obj == f.obj for w, f in zip(wanted, found, strict=True)], dtype=bool),
        "colour": np.array([w.colour == f.colour for w, f in zip(wanted, found, strict=True)], dtype=bool),
        "object and colour": same_thing(wanted, found),
    }
    rows = [share(f"judge, renders, {name}", ok[side], 0.98) for name, ok in right.items()]
    held_out = np.arange(len(stills)) >= len(stills) // 2
    rows.append(share("judge, renders, object and colour, held out", right["object and colour"][side & held_out], 0.98))
    rows.append(share("judge, renders from overhead, object", right["object"][single & overhead]))
    pair_right = same_pair(wanted, found)
    relation = np.array([w.relation == f.relation for w, f in zip(wanted, found, strict=True)])
    rows.append(share("judge, two objects, relation", relation[~single], 0.98))
    rows.append(share("judge, two objects, all five answers", pair_right[~single], 0.98))
    clips = _drawn(round(160 * scale), "clips")
    clip = judge_clips(judge, [s.composition for s in clips], np.stack([s.pixels for s in clips]))
    rows += [
        share("judge, clips, motion", clip.motion, 0.98),
        share("judge, clips, object and colour", clip.thing, 0.98),
        share("judge, clips, object and colour, each frame alone", clip.frames.ravel(), 0.98),
        share(f"judge, clips, right in every {WINDOW} frames", clip.every_window),
        share("judge, clips, right in every frame", np.asarray(clip.frames.all(axis=1))),
    ]
    mistakes = Counter((wanted[i].obj, found[i].obj) for i in np.flatnonzero(side & ~right["object"]))
    return rows, [f"{count} x {shown} taken for {named}" for (shown, named), count in mistakes.most_common(8)]


def _drawn(count: int, kind: Kind) -> list[Sample]:
    """Half from all compositions, half from the held-out ones."""
    halves: list[Iterator[Sample]] = [
        draw_samples(count // 2, kind=kind, seed=CHECK_SEED, split=split) for split in ("all", "held-out")
    ]
    return list(itertools.chain(*halves))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge", description="The judge of world benchmarks.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--train", action="store_true", help="render, train and write the weights, then check")
    action.add_argument("--check", action="store_true", help="print how often the judge is right")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, metavar="FILE")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="for rendering")
    parser.add_argument("--small", action="store_true", help="a minute quantity of everything, to try the loop")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.train:
        _train(args.weights, args.processes, args.small)
    rows, mistakes = check(Judge.load(args.weights), 0.02 if args.small else 1.0)
    print(as_json(rows) if args.json else table(rows))
    print("\n".join(["commonest mistakes:", *mistakes]), file=sys.stderr)
    return 0


def _train(weights: Path, processes: int, small: bool) -> None:
    from benchmarks.truth.judge_training import Budget, train

    budget = Budget(128, 16, 16, 3, 3, 64) if small else Budget()
    done: dict[str, nn.Module] = {}
    for stage, step, total, loss, network in train(budget, processes):
        if step == total or step % 50 == 0:
            print(f"{stage} {step}/{total}" + ("" if np.isnan(loss) else f" loss {loss:.3f}"), file=sys.stderr)
        if network is not None:
            done[stage] = network
    picture, motion = done["train pictures"], done["train motion"]
    assert isinstance(picture, PictureNetwork)
    assert isinstance(motion, MotionNetwork)
    Judge(picture, motion).save(weights)


if __name__ == "__main__":
    sys.exit(main())

"""`kinoform score`: how well clips and pictures agree with prompts, by the model's CLIP."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab.flags import add_command
from lab.jobs.prompts import read_prompts
from lab.show.console import Console
from lab.vocabulary import unknown_words
from shared.errors import InputError
from shared.plugins import OneOf, load
from shared.recipe import did_you_mean

CLIP = "clip"
SCORERS = OneOf((CLIP,), "scorers")
EXAMPLES = (
    'kinoform score ball.mp4 --prompt "a red ball bouncing"',
    "kinoform score out/*.png                       # each against the prompt it was made from, and R-Precision",
)


def add_parser(commands: Any, name: str, help: str) -> None:
    parser = add_command(commands, name, run, help, EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="+", help="clips or pictures")
    parser.add_argument("--prompt", metavar="TEXT", help="what they should show (default: what each was made from)")
    parser.add_argument(
        "--among", metavar="FILE", help="further captions, one a line: how often is the right one found among all?"
    )
    parser.add_argument("--model", metavar="TEXT", default="world", help="a folder with an image encoder, or a CLIP")
    names = ",".join(SCORERS.names())
    parser.add_argument("--scorer", metavar=f"{{{names}}}", default=CLIP, help=f"what scores (default {CLIP})")


def run(args: argparse.Namespace) -> None:
    names = SCORERS.names()
    if args.scorer not in names:
        hint = did_you_mean(args.scorer, names)
        raise InputError("--scorer", expected=" or ".join(names), got=args.scorer, hint=hint)
    if hasattr(args, "prompt") and not args.prompt.strip():
        raise InputError("--prompt", expected="some words", got=args.prompt)
    for file in args.files:
        _check(file)
    prompts = [_prompt_of(file, getattr(args, "prompt", None)) for file in args.files]
    captions = list(dict.fromkeys(prompts))
    if hasattr(args, "among"):
        captions = list(dict.fromkeys([*captions, *(asked.prompt for asked in read_prompts(args.among))]))
    console = Console(as_json=args.json)
    with console.timed("load"):
        scorer = load("scorers", args.scorer)(args.model) if args.scorer != CLIP else _clip_scorer(args.model)
    unknown, lines = unknown_words(scorer.conditioner, *prompts) if args.scorer == CLIP else ([], [])
    for line in lines:
        console.warn(line)
    results = []
    with console.timed("score"):
        for file, prompt in zip(args.files, prompts, strict=True):
            frames = _frames(file)
            scores = _scores(scorer, frames, captions)
            own = scores[captions.index(prompt)]
            rank = 1 + sum(score > own for score in scores)
            results.append({"file": file, "prompt": prompt, "score": own, "rank": rank})
    _tell(console, results, len(captions), unknown)


def _tell(console: Console, results: list[dict[str, Any]], captions: int, unknown: list[str]) -> None:
    """One score as it is; several with their names, and R-Precision (Park et al. 2021) where captions differ."""
    first = results[0]
    lines = [f"{r['score']:.4f}" + (f"  {r['file']}: {r['prompt']}" if len(results) > 1 else "") for r in results]
    about: dict[str, Any] = {**first, "unknown_words": unknown, "outputs": []}
    if len(results) > 1:
        about = {"results": results, "unknown_words": unknown, "outputs": []}
    if captions > 1:
        precision = sum(r["rank"] == 1 for r in results) / len(results)
        lines.append(f"R-Precision {precision:.3f} among {captions} captions (chance {1 / captions:.3f})")
        about.update(r_precision=precision, captions=captions, chance=1 / captions)
    console.result(lines, **about)


def _scores(scorer: Any, frames: Any, captions: list[str]) -> list[float]:
    """That of each caption: CLIP looks at the frames once, scorers of plug-ins know one caption at a time."""
    if of_all := getattr(scorer, "scores", None):
        return [float(score) for score in of_all(frames, captions)]
    return [scorer.score(frames, caption) for caption in captions]


def _check(file: str) -> None:
    """Raises InputError for what is no picture and no clip, by its name."""
    from shared.artifacts.media import CLIP_SUFFIXES, IMAGE_SUFFIXES

    if not Path(file).exists():
        raise InputError("file", expected="a file that exists", got=file)
    known = sorted({*CLIP_SUFFIXES, *IMAGE_SUFFIXES} - {""})
    if not Path(file).is_dir() and Path(file).suffix.lower() not in known:
        raise InputError("file", expected=f"a folder of PNGs or one of {' '.join(known)}", got=file)


def _prompt_of(file: str, given: str | None) -> str:
    """What a file should show. Raises InputError for one that does not say while none is given."""
    from shared.artifacts.run_record import read_record

    if given is None:
        prompt = read_record(file).recipe.get("prompt")
        if not isinstance(prompt, str):
            raise InputError(f"record of {file}", expected="a prompt", got=prompt, hint="Say --prompt TEXT")
        return prompt
    return given


def _frames(file: str) -> Any:
    from shared.artifacts.media import is_clip, read_clip, read_image

    return read_clip(file).frames if is_clip(file) else read_image(file)[None]


def _clip_scorer(model: str) -> Any:
    from shared.models.clip_scorer import ClipScorer
    from shared.models.source import resolve_model

    return ClipScorer.from_folder(resolve_model(model))

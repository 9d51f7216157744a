"""`kinoform score`: how well a clip or picture agrees with a prompt, by the model's CLIP."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab.flags import add_command
from lab.show.console import Console
from lab.vocabulary import unknown_words
from shared.errors import InputError
from shared.plugins import OneOf, load
from shared.recipe import did_you_mean

NAME = "score"
CLIP = "clip"
SCORERS = OneOf((CLIP,), "scorers")
HELP = "Score how well a clip or picture agrees with a prompt: cosine similarity of CLIP, -1 to 1, higher is better."


def add_parser(commands: Any) -> None:
    parser = add_command(commands, NAME, run, HELP)
    parser.add_argument("file", metavar="FILE", help="a clip or picture")
    parser.add_argument("--prompt", metavar="TEXT", required=True, help="what it should show")
    parser.add_argument(
        "--model", metavar="TEXT", default="world", help="a folder with an image encoder (default world)"
    )
    names = ",".join(SCORERS.names())
    parser.add_argument("--scorer", metavar=f"{{{names}}}", default=CLIP, help=f"what scores (default {CLIP})")


def run(args: argparse.Namespace) -> None:
    if not args.prompt.strip():
        raise InputError("--prompt", expected="some words", got=args.prompt)
    names = SCORERS.names()
    if args.scorer not in names:
        hint = did_you_mean(args.scorer, names)
        raise InputError("--scorer", expected=" or ".join(names), got=args.scorer, hint=hint)
    file = Path(args.file)
    if not file.exists():
        raise InputError("file", expected="a file that exists", got=args.file)
    console = Console(as_json=args.json)
    from shared.artifacts.media import CLIP_SUFFIXES, IMAGE_SUFFIXES, is_clip, read_clip, read_image

    known = sorted({*CLIP_SUFFIXES, *IMAGE_SUFFIXES} - {""})
    if not file.is_dir() and file.suffix.lower() not in known:
        raise InputError("file", expected=f"a folder of PNGs or one of {' '.join(known)}", got=args.file)
    with console.timed("read"):
        frames = read_clip(file).frames if is_clip(file) else read_image(file)[None]
    with console.timed("load"):
        scorer = load("scorers", args.scorer)(args.model) if args.scorer != CLIP else _clip_scorer(args.model)
    unknown, lines = unknown_words(scorer.conditioner, args.prompt) if args.scorer == CLIP else ([], [])
    for line in lines:
        console.warn(line)
    with console.timed("score"):
        score = scorer.score(frames, args.prompt)
    console.result([f"{score:.4f}"], outputs=[], file=file, prompt=args.prompt, score=score, unknown_words=unknown)


def _clip_scorer(model: str) -> Any:
    from shared.models.clip_scorer import ClipScorer
    from shared.models.source import resolve_model

    return ClipScorer.from_folder(resolve_model(model))

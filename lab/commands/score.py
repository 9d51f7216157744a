"""`kinoform score`: how well a clip or picture agrees with a prompt, by the model's CLIP."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab.console import Console
from lab.flags import add_command
from lab.vocabulary import unknown_words
from shared.errors import InputError

NAME = "score"
HELP = "Score how well a clip or picture agrees with a prompt (CLIP similarity)."


def add_parser(commands: Any) -> None:
    parser = add_command(commands, NAME, run, HELP)
    parser.add_argument("file", metavar="FILE", help="a clip or picture")
    parser.add_argument("--prompt", metavar="TEXT", required=True, help="what it should show")
    parser.add_argument(
        "--model", metavar="TEXT", default="world", help="a folder with an image encoder (default world)"
    )


def run(args: argparse.Namespace) -> None:
    if not args.prompt.strip():
        raise InputError("--prompt", expected="some words", got=args.prompt)
    file = Path(args.file)
    if not file.exists():
        raise InputError("file", expected="a file that exists", got=args.file)
    console = Console(as_json=args.json)
    from shared.media import CLIP_SUFFIXES, IMAGE_SUFFIXES, read_clip, read_image

    known = sorted({*CLIP_SUFFIXES, *IMAGE_SUFFIXES} - {""})
    if not file.is_dir() and file.suffix.lower() not in known:
        raise InputError("file", expected=f"a folder of PNGs or one of {' '.join(known)}", got=args.file)
    with console.timed("read"):
        picture = file.suffix.lower() in IMAGE_SUFFIXES
        frames = read_image(file)[None] if picture else read_clip(file).frames
    with console.timed("load"):
        from shared.clip_score import ClipScorer
        from shared.model_source import resolve_model

        scorer = ClipScorer.from_folder(resolve_model(args.model))
    unknown, lines = unknown_words(scorer.conditioner, args.prompt)
    for line in lines:
        console.warn(line)
    with console.timed("score"):
        score = scorer.score(frames, args.prompt)
    console.result([f"{score:.4f}"], outputs=[], file=file, prompt=args.prompt, score=score, unknown_words=unknown)

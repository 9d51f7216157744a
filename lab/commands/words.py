"""`kinoform words`: the words that a model knows."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from lab.flags import add_command
from lab.show.console import Console
from lab.vocabulary import grouped, stored_words
from shared.errors import InputError
from shared.models.source import find_model


def add_parser(commands: Any, name: str, help: str) -> None:
    parser = add_command(commands, name, run, help, ("kinoform words", "kinoform words --model runs/mine"))
    parser.add_argument("--model", metavar="TEXT", default="world", help="world, or a model's folder (default world)")


def run(args: argparse.Namespace) -> None:
    folder = find_model(args.model)
    if folder is None or not folder.is_dir():
        raise InputError("--model", expected="world, or a folder on this machine", got=args.model)
    words = stored_words(folder)
    lines = []
    for name, phrases in grouped(words).items():
        lines += textwrap.wrap(f"{name}: {', '.join(phrases)}", 110, subsequent_indent="  ")
    if not words:
        lines = ["this model spells any word"]
    Console(as_json=args.json).result(lines, words=words, groups=grouped(words))

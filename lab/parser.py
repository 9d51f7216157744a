"""The whole command line as one parser. Imports recipes and flags, never torch: `--help` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from lab.flags import Parser
from shared.errors import InputError
from shared.plugins import installed
from shared.recipe import did_you_mean
from shared.version import VERSION

# Our commands but those that make things: the module of each below lab.commands, of which a call imports its own alone,
# and what it does.
OWN = {
    "batch": (
        "batch.command",
        "Make all that a manifest asks for, whatever happens meanwhile; look at it, stop it, go on.",
    ),
    "world": ("world", "Render the procedural world as a data set, or write one exact mesh of it."),
    "data": ("data", "Look through a folder of your own pictures or clips before training on it."),
    "train": ("train", "Train one stage of a model on a folder of pictures or clips with captions.jsonl."),
    "models": ("models.listing", "List the models that are here, and what each can do."),
    "inspect": (
        "models.inspect",
        "Show what a model, or a .safetensors file, holds: parts, classes, dtypes, sizes, licence.",
    ),
    "convert": (
        "models.convert",
        "Make safetensors of pickles (.ckpt .pt .bin), and a diffusers folder of a single Stable Diffusion file.",
    ),
    "words": ("words", "List the words that a model knows."),
    "prompt": ("prompts.expand", "Expand a prompt with what it leaves open."),
    "plan": ("plan", "Estimate what a clip, image, asset or training takes, before it is started."),
    "score": (
        "score",
        "Score how well clips or pictures agree with prompts: cosine similarity of CLIP, -1 to 1, higher is better.",
    ),
    "decode": ("decode", "Decode the latents that a failed clip or image has left."),
    "describe": ("records.describe", "Show what a file was made from: recipe, seed, model and versions."),
    "verify": (
        "records.verify",
        "Say who signed a file, whether it has been changed since, and whether its run record is there.",
    ),
    "rerun": ("rerun", "Make a file again from the record it carries; the same bytes here, but for a signature."),
    "gallery": ("batch.gallery", "Make a page of the results in a folder and below, to open in a browser."),
    "doctor": ("doctor", "Show what this machine and installation have, and test the parts."),
}


def names() -> list[str]:
    """Of all commands: those of kinds first, and no plug-in's kind of the name of one of ours."""
    from lab.kinds import kinds  # inside: it imports every recipe

    return [*(name for name in kinds() if name not in OWN), *OWN]


def build(name: str) -> Parser:
    """The parser, with the flags of the command `name` alone, so that no preset of another is read. One of OWN is alone
    in it.
    """
    parser = Parser(prog="kinoform", description="A text-to-video and 3D lab: one prompt gives a clip or an asset.")
    parser.add_argument("--version", action="version", version=f"kinoform {VERSION}")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=Parser)
    for command in [name] if name in OWN else names():
        if command in OWN:
            module, help = OWN[command]
            if command == name:
                import_module(f"lab.commands.{module}").add_parser(parsers, name, help)
            else:
                parsers.add_parser(command, help=help)
        else:
            _add_kind(parsers, command, whole=command == name)
    return parser


def _add_kind(parsers: Any, name: str, *, whole: bool) -> None:
    from lab.kinds import kinds

    if whole:
        from lab.commands.make import add_parser

        add_parser(parsers, kinds()[name])
    else:
        parsers.add_parser(name, help=kinds()[name].help)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The parsed arguments with `run`, the function of the command. Raises InputError for anything unknown."""
    name = argv[0] if argv else ""
    parser = build(name)
    if name not in OWN:
        _check(name, parser)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        args.parser.refuse(unknown)
    return args


def _check(name: str, parser: Parser) -> None:
    """Raises InputError where `name`, what the command line begins with, is neither a command nor a flag."""
    known = names()
    if not name:
        parser.print_help(sys.stderr)
        raise InputError("command", expected=", ".join(known), got="nothing")
    if name not in (*known, "-h", *parser.flags()):
        if name in installed("kinds"):
            from lab.kinds.table import plugin_kind

            plugin_kind(name)  # which tells what is wrong with it
        raise InputError("command", expected=", ".join(known), got=name, hint=did_you_mean(name, known))

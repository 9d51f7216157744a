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

# Our commands but those that make things: each is a module, of which a call imports its own alone.
OWN = {
    "batch": "batch.command",
    "world": "world",
    "data": "data",
    "train": "train",
    "models": "models.listing",
    "inspect": "models.inspect",
    "convert": "models.convert",
    "words": "words",
    "prompt": "prompts.expand",
    "plan": "plan",
    "score": "score",
    "decode": "decode",
    "describe": "records.describe",
    "verify": "records.verify",
    "rerun": "rerun",
    "gallery": "batch.gallery",
    "doctor": "doctor",
}


def own(name: str) -> Any:
    """The module of one of OWN."""
    return import_module(f"lab.commands.{OWN[name]}")


def commands() -> dict[str, Any]:
    """All commands by name; a plug-in's kind of the name of one of ours is left out."""
    from lab.commands import make  # inside: it imports every kind

    return {**{command.NAME: command for command in make.commands()}, **{name: own(name) for name in OWN}}


def build(name: str) -> Parser:
    """The parser, with the flags of the command `name` alone, so that no preset of another is read. One of OWN is alone
    in it.
    """
    parser = Parser(prog="kinoform", description="A text-to-video and 3D lab: one prompt gives a clip or an asset.")
    parser.add_argument("--version", action="version", version=f"kinoform {VERSION}")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=Parser)
    for command in [own(name)] if name in OWN else commands().values():
        if name == command.NAME:
            command.add_parser(parsers)
        else:
            parsers.add_parser(command.NAME, help=command.HELP)
    return parser


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
    names = list(commands())
    if not name:
        parser.print_help(sys.stderr)
        raise InputError("command", expected=", ".join(names), got="nothing")
    if name not in (*names, "-h", *parser.flags()):
        if name in installed("kinds"):
            from lab.kinds.table import plugin_kind

            plugin_kind(name)  # which tells what is wrong with it
        raise InputError("command", expected=", ".join(names), got=name, hint=did_you_mean(name, names))

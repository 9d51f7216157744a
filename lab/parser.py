"""The whole command line as one parser. Imports recipes and flags, never torch: `--help` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from lab.commands import data, decode, doctor, make, plan, rerun, score, train, words, world
from lab.commands.batch import command as batch
from lab.commands.batch import gallery
from lab.commands.models import convert, inspect, listing
from lab.commands.prompts import expand
from lab.commands.records import describe, verify
from lab.flags import Parser
from lab.kinds.table import plugin_kind
from shared.errors import InputError
from shared.plugins import installed
from shared.recipe import did_you_mean
from shared.version import VERSION

MODELS = listing, inspect, convert
OWN: tuple[Any, ...] = (
    batch,
    world,
    data,
    train,
    *MODELS,
    words,
    expand,
    plan,
    score,
    decode,
    describe,
    verify,
    rerun,
    gallery,
    doctor,
)


def commands() -> dict[str, Any]:
    """All commands by name; a plug-in's kind of the name of one of ours is left out."""
    return {command.NAME: command for command in (*make.commands(), *OWN)}


def build(name: str) -> Parser:
    """The parser, with the flags of the command `name` alone: no preset of another is read."""
    parser = Parser(prog="kinoform", description="A text-to-video and 3D lab: one prompt gives a clip or an asset.")
    parser.add_argument("--version", action="version", version=f"kinoform {VERSION}")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=Parser)
    for command in commands().values():
        if name == command.NAME:
            command.add_parser(parsers)
        else:
            parsers.add_parser(command.NAME, help=command.HELP)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The parsed arguments with `run`, the function of the command. Raises InputError for anything unknown."""
    name = argv[0] if argv else ""
    parser = build(name)
    names = list(commands())
    if not argv:
        parser.print_help(sys.stderr)
        raise InputError("command", expected=", ".join(names), got="nothing")
    if name not in (*names, "-h", *parser.flags()):
        if name in installed("kinds"):
            plugin_kind(name)  # which tells what is wrong with it
        raise InputError("command", expected=", ".join(names), got=name, hint=did_you_mean(name, names))
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        args.parser.refuse(unknown)
    return args

"""The whole command line as one parser. Imports recipes and flags, never torch: `--help` answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from lab.commands import data, decode, describe, doctor, make, plan, rerun, score, train, words, world
from lab.flags import Parser
from shared.errors import InputError
from shared.recipe import did_you_mean
from shared.version import VERSION

COMMANDS: tuple[Any, ...] = (*make.COMMANDS, world, data, train, words, plan, score, decode, describe, rerun, doctor)


def build(name: str) -> Parser:
    """The parser, with the flags of the command `name` alone: no preset of another is read."""
    parser = Parser(prog="kinoform", description="A text-to-video and 3D lab: one prompt gives a clip or an asset.")
    parser.add_argument("--version", action="version", version=f"kinoform {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=Parser)
    for command in COMMANDS:
        if name == command.NAME:
            command.add_parser(commands)
        else:
            commands.add_parser(command.NAME, help=command.HELP)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The parsed arguments with `run`, the function of the command. Raises InputError for anything unknown."""
    name = argv[0] if argv else ""
    parser = build(name)
    commands = [command.NAME for command in COMMANDS]
    if not argv:
        parser.print_help(sys.stderr)
        raise InputError("command", expected=", ".join(commands), got="nothing")
    if name not in (*commands, "-h", *parser.flags()):
        raise InputError("command", expected=", ".join(commands), got=name, hint=did_you_mean(name, commands))
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        args.parser.refuse(unknown)
    return args

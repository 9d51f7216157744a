"""`kinoform describe`: the run record that a clip, picture or asset carries."""

from __future__ import annotations

import argparse
from typing import Any

from lab.flags import add_command
from lab.show.console import Console


def add_parser(commands: Any, name: str, help: str) -> None:
    parser = add_command(commands, name, run, help)
    parser.add_argument("file", metavar="FILE", help="a file that kinoform made")


def run(args: argparse.Namespace) -> None:
    from shared.artifacts.run_record import read_record

    record = read_record(args.file)
    Console(as_json=args.json).result(
        _lines(record.model_dump()), file=args.file, seed=record.seed, record=record.model_dump()
    )


def _lines(values: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines

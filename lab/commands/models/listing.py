"""`kinoform models`: the models that are here, and what each can do."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab.flags import add_command
from lab.show.amounts import as_size
from lab.show.console import Console
from shared.models.look.listing import Listed, listed

USUAL = Path("models")  # looked into where it is there and no folder is named


def add_parser(commands: Any, name: str, help: str) -> None:
    parser = add_command(commands, name, run, help, ("kinoform models", "kinoform models ~/models runs --json"))
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        nargs="*",
        default=[],
        help="a model, or a folder of models (default: models, where there is one)",
    )
    parser.add_argument("--no-hub", action="store_true", help="leave out what the hub's cache holds")


def run(args: argparse.Namespace) -> None:
    folders = [Path(folder).expanduser() for folder in args.folders] or [USUAL] * USUAL.is_dir()
    found = list(listed(folders, hub=not hasattr(args, "no_hub")))
    rows = [_row(model) for model in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    Console(as_json=args.json).result(lines, models=[_fields(model) for model in found])


def _row(model: Listed) -> list[str]:
    look = model.look
    if look is None:
        return [model.name, "", "", f"cannot be read: {model.problem}"]
    can = ", ".join(look.can) or f"nothing, {look.problem}"
    return [model.name, as_size(look.bytes), look.kind, can]


def _fields(model: Listed) -> dict[str, Any]:
    look = model.look
    fields: dict[str, Any] = {"name": model.name, "path": model.path, "problem": model.problem}
    if look is None:
        return {**fields, "layout": None, "class": None, "bytes": None, "size": None, "can": []}
    return {
        **fields,
        "layout": look.layout,
        "class": look.kind,
        "bytes": look.bytes,
        "size": look.size,
        "can": list(look.can),
    }

"""`kinoform gallery`: a page of the results in a folder, which a browser opens from disk."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from lab.flags import add_command
from lab.outputs import existing_folder
from lab.show.console import Console
from shared.errors import InputError


def add_parser(commands: Any, name: str, help: str) -> None:
    parser = add_command(commands, name, run, help, ("kinoform gallery out/", "kinoform gallery out/ --title Chairs"))
    parser.add_argument("folder", metavar="FOLDER", help="a folder that kinoform has written results to")
    parser.add_argument("--title", metavar="TEXT", help="what the page is called (default the folder's name)")


def run(args: argparse.Namespace) -> None:
    folder = existing_folder("FOLDER", args.folder)
    title = getattr(args, "title", folder.resolve().name or "Results")
    if not title.strip():
        raise InputError("--title", expected="some words", got=title)
    console = Console(as_json=args.json)
    from lab.web.items import items_below
    from lab.web.page import Page

    page = Page(folder, title)
    with console.timed("read"):
        items = list(items_below(folder))
    if not items:
        raise InputError(
            f"folder {args.folder}",
            expected="files made by kinoform, there or below",
            got="none",
            hint=f'Make one: kinoform image "a red cube" -o {Path(args.folder) / "cube.png"}',
        )
    with console.timed("page"):
        page.update(items)
    counts = Counter(item.step for item in items)
    made = ", ".join(f"{count} {step}{'' if count == 1 else 's'}" for step, count in counts.items())
    console.result([f"{page.index}: {made}"], outputs=[page.index], results=len(items), steps=dict(counts))

"""`kinoform rerun`: the same file again, from the record it carries."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab import device
from lab.commands.make import show_run
from lab.flags import add_command, add_device_flag, add_memory_flags
from lab.jobs.run import Context, Job, check
from lab.kinds import kind_of_record, kinds
from lab.show.console import Console

NAME = "rerun"
HELP = "Make a file again from the record it carries; the same bytes here."


def add_parser(commands: Any) -> None:
    parser = add_command(commands, NAME, run, HELP, ("kinoform rerun ball.mp4 -o again.mp4",))
    parser.add_argument("file", metavar="FILE", help="a file that kinoform made")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write (default FILE's name with -rerun)")
    parser.add_argument("--model", metavar="TEXT", help="where the model is now, if it has moved")
    for key in moving():
        parser.add_argument(f"--{key}", metavar="FILE", help=f"where the file of --{key} is now, if it has moved")
    add_memory_flags(parser, ("offload",))
    add_device_flag(parser)


def moving() -> list[str]:
    """Keys of recipes of any kind that name files."""
    return sorted({key for kind in kinds().values() for key in kind.recipe.file_keys()})


def run(args: argparse.Namespace) -> None:
    from shared.artifacts.run_record import read_record

    file = Path(args.file)
    file = file if file.name else file.resolve()  # "." has no name
    record = read_record(file)
    kind = kind_of_record(record, f"file {file}")
    # Where model and files lie and what idle weights take may differ on another machine; what is computed may not.
    free = [name for name in ("model", "offload", *record.inputs) if hasattr(args, name)]
    values = {**record.recipe, **{name: getattr(args, name) for name in free}}
    output = getattr(args, "output", str(file.with_name(f"{file.stem}-rerun{file.suffix}")))
    job = Job(kind.recipe.parse(values), kind.output(output), earlier=record)
    context = Context(device.check(args.device))
    check([job], context)
    show_run(Console(as_json=args.json), [job], context)

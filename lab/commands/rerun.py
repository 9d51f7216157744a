"""`kinoform rerun`: the same file again, from the record it carries."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import device
from lab.batch.step import Work
from lab.batch.tools import TOOLS, Tool, again, tool_of
from lab.flags import add_command, add_device_flag, add_memory_flags, add_sign_flag, flag_of
from lab.jobs.events import Failed
from lab.jobs.run import Context, Job, check
from lab.kinds import kind_of_record, kinds
from lab.outputs import signer
from lab.show.console import Console
from lab.show.run import show_run
from shared.artifacts.provenance.signature import check_signable
from shared.errors import InputError
from shared.recipe import moved_file

if TYPE_CHECKING:
    from shared.artifacts.run_record import RunRecord


def add_parser(commands: Any, name: str, help: str) -> None:
    parser = add_command(commands, name, run, help, ("kinoform rerun ball.mp4 -o again.mp4",))
    parser.add_argument("file", metavar="FILE", help="a file that kinoform made")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write (default FILE's name with -rerun)")
    parser.add_argument("--model", metavar="TEXT", help="where the model is now, if it has moved")
    for key in moving():
        parser.add_argument(
            flag_of(key), metavar="FILE", help=f"where the file of {flag_of(key)} is now, if it has moved"
        )
    for key in moving_lists():
        text = f"where the files of {flag_of(key)} are now, in their order; their weights stay"
        parser.add_argument(flag_of(key), dest=key, metavar="FILE", action="append", help=text)
    add_memory_flags(parser, ("offload",))
    add_sign_flag(parser)
    add_device_flag(parser)


def moving() -> list[str]:
    """Keys of recipes of any kind or tool that name files."""
    recipes = [*(kind.recipe for kind in kinds().values()), *(tool.recipe for tool in TOOLS)]
    return sorted({key for recipe in recipes for key in recipe.file_keys()})


def moving_lists() -> list[str]:
    """Keys of recipes of any kind that name several files."""
    return sorted({key for kind in kinds().values() for key in kind.recipe.files_keys()})


def run(args: argparse.Namespace) -> None:
    from shared.artifacts.run_record import read_record

    file = Path(args.file)
    file = file if file.name else file.resolve()  # "." has no name
    record = read_record(file)
    output = getattr(args, "output", str(file.with_name(f"{file.stem}-rerun{file.suffix}")))
    # Where model and files lie and what idle weights take may differ on another machine; what is computed may not.
    free = [name for name in ("model", "offload", *record.inputs) if hasattr(args, name)]
    moved = {**_beside(file, record), **{name: getattr(args, name) for name in free}, **_lists(args, record)}
    context = Context(device.check(args.device), signer=signer(args))
    console = Console(as_json=args.json)
    tool = tool_of(record)
    if tool is not None:
        work = again(record, output, {key: moved[key] for key in record.inputs if key in moved})
        _run_tool(tool, work, context, console)
        return
    kind = kind_of_record(record, f"file {file}")
    job = Job(kind.recipe.parse({**record.recipe, **moved}), kind.output(output), earlier=record)
    check([job], context)
    show_run(console, [job], context)


def _beside(file: Path, record: RunRecord) -> dict[str, str]:
    """Files that a record names by where they lie from `file`, as those of batches do."""
    found = {key: file.parent / str(record.recipe[key]) for key in record.inputs if key in record.recipe}
    return {key: str(path) for key, path in found.items() if not Path(record.recipe[key]).exists() and path.is_file()}


def _lists(args: argparse.Namespace, record: RunRecord) -> dict[str, list[str]]:
    """The lists of files that have moved, with the weights that the record has."""
    found = {}
    for key in (key for key in moving_lists() if hasattr(args, key)):
        was, now = record.recipe.get(key, []), getattr(args, key)
        if len(was) != len(now):
            raise InputError(flag_of(key), expected=f"{len(was)} files, as the record has", got=len(now))
        found[key] = [moved_file(text, path) for text, path in zip(was, now, strict=True)]
    return found


def _run_tool(tool: Tool, work: Work, context: Context, console: Console) -> None:
    tool.check(work.recipe, work.output)
    if context.signer is not None:
        check_signable([work.output])
    for ended in console.watch(tool.run([work], context), 1):
        if isinstance(ended, Failed):
            raise ended.error
        console.result([f"wrote {work.output}"], outputs=list(ended.outputs))

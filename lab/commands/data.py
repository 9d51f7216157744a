"""`kinoform data check | captions`: what a folder of one's own pictures or clips holds, before training on it."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lab.commands.train_all import MINUTES
from lab.flags import Parser, add_command
from lab.outputs import existing_folder
from lab.show.console import Console
from shared.artifacts.files import check_writable, write_bytes
from shared.errors import InputError, one_line

if TYPE_CHECKING:
    from shared.training.data.survey import Survey

SHOWN = 8  # faults, or pairs of duplicates, that are listed


def add_parser(commands: Any, name: str, help: str) -> None:
    data = commands.add_parser(name, help=help, description=help)
    actions = data.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    check: Parser = add_command(
        actions, "check", run_check, "Say what is there, what cannot be used, and what would be trained."
    )
    check.add_argument("folder", metavar="DIR", help="pictures or clips with captions")
    check.add_argument("--sheet", metavar="FILE", help="a contact sheet to write: .png, .jpg or .webp")
    captions: Parser = add_command(
        actions, "captions", run_captions, "Write captions.jsonl from file names: roller_coaster.mp4, roller coaster."
    )
    captions.add_argument("folder", metavar="DIR", help="pictures or clips whose names say what they show")


def run_check(args: argparse.Namespace) -> None:
    folder = existing_folder("DIR", args.folder)
    sheet = getattr(args, "sheet", None)
    if sheet is not None:
        from shared.artifacts.formats.image_file import IMAGE_SUFFIXES

        check_writable(sheet, IMAGE_SUFFIXES)
    console = Console(as_json=args.json)
    from shared.training.data.groups import reading
    from shared.training.data.survey import survey_of

    data = console.follow("look at files", reading(folder)).data
    assert data is not None
    survey = survey_of(data)
    outputs = []
    if sheet is not None and data.groups:
        from shared.artifacts.media import write_image
        from shared.training.data.sheet import data_sheet

        with console.timed("sheet"):
            write_image(sheet, data_sheet(data))
        outputs.append(sheet)
    lines = [*_lines(survey), *(f"sheet        {file}" for file in outputs)]
    fields = {**asdict(survey), "path": survey.path, "stages": survey.stages}
    console.result(map(one_printable, lines), outputs=outputs, survey=fields)
    refusal = data.refusal()
    if refusal is not None:
        raise refusal


def run_captions(args: argparse.Namespace) -> None:
    from shared.training.data.captions import INDEXES, caption_from_name, media_below

    folder = existing_folder("DIR", args.folder)
    console = Console(as_json=args.json)
    there = [name for name in INDEXES if (folder / name).exists()]
    if there:
        raise InputError(
            "DIR", expected=f"a folder without {there[0]}", got=args.folder, hint="It has captions already"
        )
    files = media_below(folder)
    if not files:
        raise InputError("DIR", expected="a folder of pictures or clips", got=args.folder)
    entries = [{"file": file, "caption": caption_from_name(file)} for file in files]
    index = folder / INDEXES[0]
    write_bytes(index, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode())
    console.result(
        [one_printable(f"{index}: {len(files)} captions, such as {entries[0]['caption']!r}. Correct them as you like")],
        outputs=[index], captions=len(files),
    )  # fmt: skip


def one_printable(line: str) -> str:
    return one_line(line, limit=1000)


def _lines(survey: Survey) -> Iterator[str]:
    from shared.training.data.survey import sizes, survey_line

    yield f"{survey.path}: {survey_line(survey)}"
    different = f"{survey.distinct_captions} different, {survey.empty_captions} empty"
    yield f"captions     {survey.captions} in {', '.join(survey.layouts[:SHOWN])}: {different}"
    yield f"             {survey.caption_words} words each"
    yield f"words        {survey.words} different, {survey.words_once} only once"
    frequent = ", ".join(f"{word} {count}" for word, count in survey.frequent_words)
    yield from textwrap.wrap(frequent, 100, initial_indent=" " * 13, subsequent_indent=" " * 13)
    yield f"size         {sizes(survey)} pixels, width / height {survey.aspect}"
    yield f"             {_megabytes(survey.bytes)} in {survey.pictures} pictures and {survey.clips} clips"
    if survey.clips:
        yield f"length       {survey.frames} frames, {survey.fps} a second"
    for name, groups in (("equal", survey.duplicates), ("alike", survey.near_duplicates)):
        yield f"{name:12} {len(groups)} groups of files" if groups else f"{name:12} none"
        yield from (f"             {', '.join(group[:4])}{', ...' * (len(group) > 4)}" for group in groups[:SHOWN])
    yield f"left out     {len(survey.left_out)} of {survey.captions + len(survey.left_out)}"
    yield from (f"             {fault}" for fault in survey.left_out[:SHOWN])
    if survey.uncaptioned:
        yield f"no caption   {len(survey.uncaptioned)}: {', '.join(survey.uncaptioned[:SHOWN])}"
    if survey.stages:
        yield f"to train     {', '.join(survey.stages)}"
        yield f"time         as long as --minutes of `kinoform train all` says (without it {MINUTES:g})"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"

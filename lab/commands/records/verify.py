"""`kinoform verify`: whether a file is as it was signed and by whom, and whether its run record can be read."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.flags import add_command
from lab.show.console import Console
from shared.errors import InputError, KinoformError

if TYPE_CHECKING:
    from shared.artifacts.provenance.signature import Signature
    from shared.artifacts.run_record import RunRecord


def add_parser(commands: Any, name: str, help: str) -> None:
    examples = ("kinoform verify cube.png", "kinoform verify cube.png --trust root.pem --json")
    parser = add_command(commands, name, run, help, examples)
    parser.add_argument("file", metavar="FILE", help="a file that kinoform made, or one that is signed")
    parser.add_argument("--trust", metavar="FILE", help="certificates (PEM) that are trusted to say who signers are")


def run(args: argparse.Namespace) -> None:
    """Raises InputError for a file with neither signature nor record, KinoformError for one that was changed."""
    from shared.artifacts.provenance.signature import read_signature
    from shared.artifacts.run_record import read_record

    file = Path(args.file)
    record, missing = None, None
    if not file.exists():
        raise InputError("file", expected="a file that exists", got=args.file)
    signature = read_signature(file, Path(args.trust) if hasattr(args, "trust") else None)
    try:
        record = read_record(file)
    except InputError as error:
        if signature is None:
            raise
        missing = error
    known = {} if signature is None else {key: value for key, value in asdict(signature).items() if key != "problems"}
    Console(as_json=args.json).result(
        _lines(args.file, signature, record, missing),
        file=args.file, signed=signature is not None, signature=known or None,
        untouched=None if signature is None else not signature.problems,
        problems=[] if signature is None else list(signature.problems),
        record=None if record is None else record.model_dump(mode="json"),
    )  # fmt: skip
    if signature is not None and signature.problems:
        raise KinoformError(f"file {args.file}", expected="as it was signed", got=signature.problems[0])


def _lines(
    file: str, signature: Signature | None, record: RunRecord | None, missing: InputError | None
) -> Iterator[str]:
    if signature is None:
        yield "not signed: nothing says whether it was changed"
    elif signature.problems:
        yield f"signed by {_who(signature)}, and CHANGED since, or its signature is damaged:"
        yield from (f"  {problem}" for problem in signature.problems)
    else:
        yield f"signed by {_who(signature)}, untouched since"
        yield f"source: {signature.origin or 'not said'}; made with {signature.agent or 'an unknown program'}"
        trust = "trusted" if signature.trusted else "not trusted: anybody can make a certificate of that name"
        yield f"{trust} (--trust FILE names those who are believed)"
    if record is None:
        yield f"no run record: {missing}"
    else:
        yield (
            f"run record: {record.command}, seed {record.seed}, model {record.model.name}, "
            f"kinoform {record.kinoform_version}; kinoform describe {file} shows it"
        )


def _who(signature: Signature) -> str:
    name = signature.name or "somebody unnamed"
    return f"{name} ({signature.organisation})" if signature.organisation else name

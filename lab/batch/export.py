"""The ledger's tasks as a table, for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.batch.ledger.reader import Reader
from lab.batch.ledger.states import State
from shared.artifacts.files import check_writable, write_bytes
from shared.errors import printable

SUFFIXES = (".csv", ".jsonl")
COLUMNS = (
    "manifest", "id", "step", "state", "prompt", "template", "model", "seed", "tags", "priority", "output", "sha256",
    "seconds", "clip_score", "attempts", "error",
)  # fmt: skip


def export(ledger: Reader, output: Path) -> int:
    """Write all tasks to a .csv or .jsonl file, one a line; the number of them. JSONL has the recipe, too.

    What would steer a terminal is escaped (`shared.errors.printable`): in JSONL so that readers get the text as it was.

    Raises InputError for another ending.
    """
    check_writable(output, SUFFIXES)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS) if output.suffix.lower() == ".csv" else None
    if table is not None:
        table.writeheader()
    count = 0
    for values, recipe in _rows(ledger):
        count += 1
        if table is not None:
            shown = {**values, "tags": " ".join(values["tags"])}
            table.writerow({name: printable(each) if isinstance(each, str) else each for name, each in shown.items()})
        else:
            text.write(_json_line({**values, "recipe": recipe}) + "\n")
    write_bytes(output, text.getvalue().encode())
    return count


def _json_line(values: dict[str, Any]) -> str:
    """JSON in which every character can be shown."""
    line = json.dumps(values, ensure_ascii=False)
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line)


def _rows(ledger: Reader) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for row in ledger.each():
        published = row.files.get(row.output) if row.state is State.DONE else None
        values = {
            "manifest": row.manifest, "id": row.id, "step": row.step, "state": row.state.value,
            "prompt": row.recipe.get("prompt"), "template": row.template, "model": row.recipe.get("model", "world"),
            "seed": row.recipe.get("seed", 0), "tags": list(row.tags), "priority": row.priority, "output": row.output,
            "sha256": None if published is None else published[0], "seconds": row.seconds,
            "clip_score": row.scores.get("clip"), "attempts": row.attempts, "error": row.error,
        }  # fmt: skip
        yield values, row.recipe

"""Files that lie where a task's result is to go: made by such a task before, or somebody's own."""

from __future__ import annotations

from pathlib import Path

from lab.batch.executors.executor import Order
from lab.batch.ledger.rows import Row
from lab.batch.results.publish import facts
from lab.batch.steps import steps
from lab.batch.tools import OF_SOURCE
from lab.jobs.record import parts_of, used_hashes
from lab.kinds import kinds
from shared.artifacts.files import sha256
from shared.artifacts.run_record import RunRecord, read_record
from shared.errors import KinoformError
from shared.models.source import find_model
from shared.models.weight_files import weight_hashes
from shared.version import VERSION


def made_before(row: Row, order: Order, target: Path) -> dict[str, tuple[str, int, int]] | None:
    """The facts of a file that is what the task would make, by the record that it carries; None for another."""
    record = _record(target)
    if record is None or record.command != row.step or record.kinoform_version != VERSION:
        return None
    try:
        recipe = steps()[row.step].recipe.parse({**row.recipe, **order.files})
    except KinoformError:
        return None
    values = {**recipe.resolved(), **order.names}
    theirs = {key: value for key, value in record.recipe.items() if key in values or key not in OF_SOURCE}
    if theirs != values or record.inputs != {key: sha256(Path(file)) for key, file in recipe.files().items()}:
        return None
    if row.step in kinds():
        path = find_model(values["model"])
        hashes = {} if path is None else weight_hashes(path)
        if record.model.hashes != used_hashes(kinds()[row.step], path, hashes, *parts_of(recipe)):
            return None
    return {row.output: facts(target)}


def is_of_batch(target: Path) -> bool:
    """Whether a file is a result, which another result may replace."""
    return _record(target) is not None


def _record(target: Path) -> RunRecord | None:
    try:
        return read_record(target)
    except KinoformError:
        return None

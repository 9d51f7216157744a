"""Writes results where their jobs say; signed, where that is asked for: then no unsigned file is ever at its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from shared.artifacts.provenance.signature import COMPOSITE, GENERATED, Signer

if TYPE_CHECKING:
    from lab.jobs.run import Job
    from lab.kinds import Kind
    from lab.results import Result
    from shared.artifacts.run_record import RunRecord


def save(job: Job, result: Result, signer: Signer | None, timed: Callable[[str], Any]) -> Sequence[Path]:
    """Write one result; the paths that were written. timed: as `Kind.save` has it."""
    if signer is None:
        return job.kind.save(result, job.recipe, job.output, timed)
    wanted = [Path(path) for path in (job.output.path, job.output.turntable) if path is not None]
    with TemporaryDirectory(prefix="kinoform-") as folder:
        staged = {path: Path(folder, str(number), path.name) for number, path in enumerate(wanted)}
        names = {path: str(place) for path, place in zip(map(str, wanted), staged.values(), strict=True)}
        unsigned = replace(
            job.output, path=_other(names, job.output.path), turntable=_other(names, job.output.turntable)
        )
        job.kind.save(result, job.recipe, unsigned, timed)
        with timed("sign"):
            for path, place in staged.items():
                signer.sign(place, path, origin(job.kind, result.record))
    return wanted


@contextmanager
def signed(path: Path, signer: Signer | None) -> Iterator[Path]:
    """Where to write a file that is to be at `path`; it gets there when the block ends well, signed as a model's."""
    if signer is None:
        yield path
        return
    with TemporaryDirectory(prefix="kinoform-") as folder:
        place = Path(folder, path.name)
        yield place
        signer.sign(place, path)


def origin(kind: Kind, record: RunRecord) -> str:
    """What a result comes of, in IPTC's words: of a model alone, or of a picture that was given as well."""
    return COMPOSITE if record.inputs.keys() & {*kind.recipe.made_file_keys()} else GENERATED


def _other(names: dict[str, str], path: str | None) -> str | None:
    return None if path is None else names[str(Path(path))]

"""What a run of jobs tells on the console, and what is said at its end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lab.jobs.events import Done, Event, Failed
from lab.jobs.run import Context, Job, run
from lab.show.console import Console
from lab.show.sheet import SHEET_ROWS, Sheet
from shared.errors import KinoformError

if TYPE_CHECKING:
    import numpy as np

Runner = Callable[[Sequence[Job], Context], Iterator[Event]]


def show_run(
    console: Console,
    jobs: Sequence[Job],
    context: Context,
    *,
    sheet: Sheet | None = None,
    preview: Any = None,
    runner: Runner = run,
) -> None:
    """Run jobs and tell of it. sheet: of many; None for one job, whose error is the command's own.

    Raises KinoformError at the end where some of many have failed.
    """
    if sheet is None:
        _show_one(console, jobs[0], context, preview, runner)
    else:
        _show_many(console, jobs, context, sheet, preview, runner)


def _show_one(console: Console, job: Job, context: Context, preview: Any, runner: Runner) -> None:
    (ended,) = console.watch(runner([job], context), 1, preview)
    if isinstance(ended, Failed):
        raise ended.error
    record, line = ended.result.record, job.kind.line(ended.result)
    line = ", ".join(filter(None, (_other_seed(job, ended), line)))
    lines = [f"wrote {path}" + (f": {line}" if line and not i else "") for i, path in enumerate(ended.outputs)]
    console.result(
        lines, outputs=list(ended.outputs), seed=record.seed, model=record.model.name,
        unknown_words=list(ended.unknown_words), **job.kind.facts(ended.result),
    )  # fmt: skip
    if not console.as_json and ended.outputs:
        console.say(next_step(job, ended))


def _other_seed(job: Job, ended: Done) -> str:
    """Which seed made a result, where several were tried."""
    seed = ended.result.record.seed
    return f"seed {seed}" if seed != job.recipe.seed else ""


def next_step(job: Job, ended: Done) -> str:
    """What people do next with a file: the same again, or another like it."""
    path = shlex.quote(str(ended.outputs[0]))
    again = f"again: kinoform rerun {path}"
    return f"{again}; another: --seed {job.recipe.seed + 1}; more at once: --count 4 -o {job.kind.name}s/"


def _show_many(
    console: Console, jobs: Sequence[Job], context: Context, sheet: Sheet, preview: Any, runner: Runner
) -> None:
    results: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    pictures: dict[str | None, list[np.ndarray]] = {}  # by output
    for ended in console.watch(runner(jobs, context), len(jobs), preview) if jobs else ():
        job = jobs[ended.index]
        about = {"prompt": job.recipe.prompt, "seed": job.recipe.seed}
        if isinstance(ended, Failed):
            reason = explain(ended.error)
            console.say(f"failed: {job.output.path}: {reason}")
            failures.append({**about, "output": job.output.path, "error": reason})
            continue
        kept = _other_seed(job, ended)
        console.tell(f"wrote {ended.outputs[0]}" + (f": {kept}" if kept else ""))
        results.append({**about, "outputs": list(ended.outputs), "unknown_words": list(ended.unknown_words),
                        **job.kind.facts(ended.result)})  # fmt: skip
        if len(pictures) < SHEET_ROWS:
            pictures[job.output.path] = ended.result.thumbnails()
    lines = []
    if pictures:
        shown = sheet.write(pictures, tried={job.output.path for job in jobs})
        count = "all of them" if shown == len(sheet.jobs) else f"{shown} of {len(sheet.jobs)}"
        lines.append(f"{count} on one page: {sheet.path}")
    outputs = [path for result in results for path in result["outputs"]]
    place = sheet.path if pictures else None
    console.result(lines, outputs=outputs, results=results, failures=failures, sheet=place)
    if failures:
        raise KinoformError(
            f"{len(failures)} of {len(jobs)} failed", hint="The same command again makes those that are missing"
        )


def explain(error: Exception) -> str:
    """An error as one line; the kind of one that nobody foresaw is named."""
    return str(error) if isinstance(error, KinoformError) else f"{type(error).__name__}: {error}"

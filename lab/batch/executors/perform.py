"""Does an assignment in this process: the same steps as the commands, whoever the executor is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from lab.batch.executors.executor import Assignment, Fault, Report
from lab.batch.step import Work
from lab.batch.steps import steps
from lab.batch.tools import score_of
from lab.jobs.events import Done, Failed, Stepped
from lab.jobs.run import Context
from shared.errors import InputError, KinoformError, ModelError, OutputError, one_line

ALIVE_SECONDS = 0.2  # between two signs of life
SCORED = ("image", "clip", "asset")


def perform(assignment: Assignment, context: Context, cancelled: Callable[[], bool]) -> Iterator[Report]:
    """Reports of one assignment, "ended" the last. cancelled: asked after every step of the work."""
    token, orders = assignment.token, list(assignment.orders)
    step = steps()[assignment.step]
    works: list[Work] = []
    for order in list(orders):
        try:
            recipe = step.recipe.parse({**order.recipe, **order.files})
        except KinoformError as error:
            orders.remove(order)
            yield _broke(token, order.number, error)
            continue
        Path(order.output).parent.mkdir(parents=True, exist_ok=True)
        works.append(Work(recipe, Path(order.output), order.names))
    started = told = time.monotonic()
    left = dict(enumerate(orders))
    try:
        with closing(step.run(works, context)) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Done):
                    order = left.pop(event.index)
                    scores = _scores(event, works[event.index]) if assignment.score else {}
                    seconds = (time.monotonic() - started) / len(orders)
                    yield Report(token, "made", order.number, seconds=seconds, scores=scores)
                elif isinstance(event, Failed):
                    yield _broke(token, left.pop(event.index).number, event.error)
                elif time.monotonic() - told >= ALIVE_SECONDS:
                    told = time.monotonic()
                    share = event.step / event.total if isinstance(event, Stepped) else 0.0
                    at = event.jobs if isinstance(event, Stepped) else ()
                    yield Report(token, "alive", shares={str(orders[index].number): share for index in at})
                if cancelled():
                    break
    except Exception as error:
        for order in left.values():
            yield _broke(token, order.number, error)
    yield Report(token, "ended")


def _scores(event: Done, work: Work) -> dict[str, float]:
    """How well a result agrees with its prompt; nothing where that cannot be asked."""
    record = event.result.record
    score = score_of(work.output, record) if record.command in SCORED else None
    return {} if score is None else {"clip": round(score, 6)}


def _broke(token: int, number: int, error: Exception) -> Report:
    fault: Fault = "work"
    if isinstance(error, (InputError, ModelError)):
        fault = "input"
    elif isinstance(error, OutputError):
        fault = "disk"
    named = f"{type(error).__name__}: {one_line(str(error), limit=400)}"
    text = str(error) if isinstance(error, KinoformError) else named
    return Report(token, "broke", number, error=text, fault=fault)

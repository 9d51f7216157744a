"""Several of each, of which the one is kept that a scorer likes best: it is what its own seed makes, and says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from lab.jobs.events import Done, Event, Failed, Stepped
from lab.jobs.run import Context, Job, run
from lab.jobs.save import save
from lab.kinds import Output


@runtime_checkable
class Scorer(Protocol):
    """The part of `shared.models.clip_scorer.ClipScorer` this needs; scorers of plug-ins have it, too."""

    def score(self, frames: Any, prompt: str) -> float: ...


def candidates(job: Job, count: int) -> list[Job]:
    """`count` jobs that differ from one in their seeds, counted up, and are written nowhere."""
    seeds = range(job.recipe.seed, job.recipe.seed + count)
    return [replace(job, recipe=job.recipe.model_copy(update={"seed": seed}), output=Output()) for seed in seeds]


def run_best(jobs: Sequence[Job], context: Context, *, count: int, scorer: Scorer) -> Iterator[Event]:
    """`run`, with the best of `count` candidates for each job; a job fails where all of them do."""
    import numpy as np

    tried = [candidate for job in jobs for candidate in candidates(job, count)]
    best: dict[int, tuple[float, Done]] = {}
    left = dict.fromkeys(range(len(jobs)), count)
    for event in run(tried, context):
        if isinstance(event, Stepped):
            yield replace(event, jobs=tuple(dict.fromkeys(index // count for index in event.jobs)))
        elif isinstance(event, (Done, Failed)):
            index = event.index // count
            left[index] -= 1
            if isinstance(event, Done):
                score = scorer.score(np.stack(event.result.thumbnails()), jobs[index].recipe.prompt)
                if index not in best or score > best[index][0]:
                    best[index] = score, event
            if not left[index]:
                yield from _kept(jobs[index], index, best.pop(index, None), event, context)
        else:
            yield event


def _kept(
    job: Job, index: int, best: tuple[float, Done] | None, last: Done | Failed, context: Context
) -> Iterator[Event]:
    if best is None:
        assert isinstance(last, Failed)
        yield replace(last, index=index)
        return
    _, done = best
    try:
        written = save(job, done.result, context.signer, lambda stage: nullcontext())
    except Exception as error:
        yield Failed(index, error)
        return
    yield replace(done, index=index, outputs=tuple(written))

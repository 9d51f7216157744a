"""Makes what recipes describe, and tells of it in events; it prints nothing. Every file is made through here.

A job is a recipe and where its result goes. Jobs that differ in prompt and seed alone are sampled in batches; each
result is the one that the job would have alone, whatever it is batched with. One job's failure is not another's.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import device
from lab.jobs.events import Done, Event, Failed, Stepped, Timed, Warned
from lab.jobs.models import Models
from lab.jobs.record import differences, record_of
from lab.jobs.save import save
from lab.kinds import Kind, Output, kind_of
from lab.kinds.pipelines import Call, call_asked, runs_by_pipeline
from lab.kinds.settled import Settler
from shared.artifacts.provenance.signature import Signer, check_signable
from shared.errors import InputError, KinoformError
from shared.models.adapters.recipe import check_adapters
from shared.models.made_for import MadeFor, made_for
from shared.models.source import check_model, find_model

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from lab.results import Result
    from shared.artifacts.run_record import RunRecord
    from shared.models.image_model import ImageModel


@dataclass(frozen=True)
class Job:
    """recipe: of one of the lab's kinds. output: where the result is written, or nowhere.

    earlier: the record that is made again; the model must have the same weights then. latents: a file with what was
    sampled before, which is decoded in place of sampling. names: what the record is to call the recipe's files, by key,
    where not by their paths.
    """

    recipe: Any
    output: Output = field(default_factory=Output)
    earlier: RunRecord | None = None
    latents: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        return kind_of(self.recipe)

    @property
    def files(self) -> dict[str, str]:
        """Files that it reads, by their keys: none where all was sampled before."""
        return self.recipe.files() if self.latents is None else {}


@dataclass
class Context:
    """What jobs run in. device: the user's choice, still unresolved. batch: the most that is sampled at once; what the
    kind finds best where None. models: those that are loaded, kept for the next jobs. signer: of all that is written.
    """

    device: str = "auto"
    batch: int | None = None
    models: Models = field(default_factory=Models)
    signer: Signer | None = None


def run(jobs: Sequence[Job], context: Context) -> Iterator[Event]:
    """Make every job's result; yields what happens, at the end of each job `Done` or `Failed`.

    What is wrong with a recipe or an output is raised as InputError at once, before anything is loaded. Closing the
    generator stops the work after the step under way, and leaves no half-written file.
    """
    settled = Settler()
    jobs = [replace(job, recipe=settled(job.kind, job.recipe)) for job in jobs]
    advice = check(jobs, context)
    said: set[str] = set()
    for event in chain(map(Warned, advice), _events(jobs, context)):
        if isinstance(event, Warned):
            if event.text in said:
                continue
            said.add(event.text)
        yield event


def _events(jobs: Sequence[Job], context: Context) -> Iterator[Event]:
    where = device.pick(context.device)
    for group in groups(jobs, context.batch, where):
        yield from _run_group(jobs, group, context, where)


def check(jobs: Sequence[Job], context: Context) -> list[str]:
    """Refuse what cannot work, before torch is imported. Returns what to say of recipes that are far from what their
    model was made for. Raises InputError.
    """
    device.check(context.device)
    made: dict[Any, tuple[Call | None, MadeFor | None]] = {}
    advice: list[str] = []
    for job in jobs:
        job.kind.check(job.recipe, job.output)
        if context.signer is not None:
            check_signable(Path(path) for path in (job.output.path, job.output.turntable) if path is not None)
        for key, file in job.files.items():
            if not Path(file).is_file():
                raise InputError(key, expected="a file that exists", got=file)
        asked = getattr(job.recipe, "pipeline_class", None)
        if job.latents is None:
            check_adapters(job.recipe)
        brings = getattr(job.recipe, "brings", ())
        parts = (*(part for part in job.kind.parts if part not in brings), *getattr(job.recipe, "uses", ()))
        name, pipelines = job.recipe.model, job.kind.pipelines
        needed = name, parts, pipelines, asked, brings
        if needed not in made:
            check_model(name, parts, pipelines=pipelines, pipeline_class=asked, replaced=brings)
            path, call = find_model(name), call_asked(job.kind, name, asked)
            made[needed] = call, None if path is None or asked or runs_by_pipeline(path) else made_for(path)
        call, model = made[needed]
        if call is not None:
            call.check(job.recipe)
        advice += [] if model is None else job.kind.advice(job.recipe, model)
        if context.device == "cpu":
            job.recipe.check_device("cpu")
    return advice


def groups(jobs: Sequence[Job], most: int | None, where: str) -> Iterator[list[int]]:
    """Numbers of jobs to be sampled together: neighbours of one kind that may share a batch."""
    group: list[int] = []
    for index, job in enumerate(jobs):
        size = most or job.kind.batch_size(where)
        if group and (len(group) >= size or not _together(jobs[group[0]], job)):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _together(first: Job, job: Job) -> bool:
    alone = first.latents or job.latents or first.kind is not job.kind
    return not alone and first.kind.together(first.recipe) == job.kind.together(job.recipe)


Jobs = Sequence[Job] | Mapping[int, Job]


def _run_group(jobs: Jobs, group: list[int], context: Context, where: str) -> Iterator[Event]:
    """One batch. Where it fails as a whole, each of its jobs is tried alone."""
    finished: set[int] = set()
    try:
        for event in _Batch(jobs, group, context, where).events():
            if isinstance(event, (Done, Failed)):
                finished.add(event.index)
            yield event
    except Exception as error:
        left = [index for index in group if index not in finished]
        if len(group) == 1:
            yield Failed(group[0], error)
            return
        for index in left:
            yield from _run_group(jobs, [index], context, where)


class _Batch:
    """The jobs `group`, sampled together on the device `where`."""

    def __init__(self, jobs: Jobs, group: list[int], context: Context, where: str) -> None:
        self.jobs = {index: jobs[index] for index in group}
        self.kind = jobs[group[0]].kind
        self.context = context
        self.where = where
        self._times: list[Timed] = []

    def events(self) -> Iterator[Event]:
        first = next(iter(self.jobs.values()))
        if first.latents is None:
            self.context.models.check(self.kind, first.recipe)
        with self._timed("load"):
            model = self.context.models.get(self.kind, first.recipe, self.where)
        yield from self._told()
        image = self.kind.image_model(model)
        yield from map(Warned, image.notes)
        self.jobs = {index: replace(job, recipe=image.completed(job.recipe)) for index, job in self.jobs.items()}
        if image.one_by_one and len(self.jobs) > 1:
            for index in self.jobs:
                yield from _run_group(self.jobs, [index], self.context, self.where)
            return
        records = {}
        unknown = {}
        for index, job in self.jobs.items():
            records[index] = record_of(self.kind, job.recipe, image, job.earlier, job.files, job.names)
            if job.earlier is not None:
                yield from map(Warned, differences(job.earlier, records[index]))
            unknown[index], lines = self._prompt_advice(image, job)
            yield from map(Warned, lines)
        sampled = yield from self._sampled(model)
        for (index, job), last in zip(self.jobs.items(), sampled, strict=True):
            try:
                result, written = self._finished(model, job, records[index], last)
            except Exception as error:
                yield from self._told()
                yield Failed(index, error)
                continue
            yield from self._told()
            yield Done(index, result, tuple(written), tuple(unknown[index]))

    def _prompt_advice(self, image: Any, job: Job) -> tuple[list[str], list[str]]:
        """Words of a job's prompts that the model does not know, and what the user should hear of them."""
        from lab.vocabulary import unknown_words

        recipe = job.recipe
        if image.text is None:
            from shared.models.pipelines.run import advice

            return [], advice(image, recipe)
        unknown, lines = unknown_words(image.text, recipe.prompt, recipe.negative)
        excess = max(image.text.excess_tokens(prompt) for prompt in (*self.kind.prompts(recipe), recipe.negative))
        if excess:
            lines.append(f"the prompt is {excess} tokens too long for this model: its end is left out")
        return unknown, lines

    def _sampled(self, model: Any) -> Generator[Event, None, list[Any]]:
        """Runs the long loop. What `Kind.finish` wants, for each job: its latents, or else the loop's last state."""
        jobs = list(self.jobs.values())
        if jobs[0].latents is not None:
            from shared.artifacts.latents_file import load_latents

            return [load_latents(jobs[0].latents)]
        last = None
        with self._timed(self.kind.looping):
            for last in self.kind.sample(model, [job.recipe for job in jobs], self.where):
                gradient_rms = getattr(last, "gradient_rms", None)
                image = self.kind.image_model(model)
                picture = None if image.codec is None else partial(self._picture, image, last)
                yield Stepped(self.kind.looping, last.step, last.total, tuple(self.jobs), gradient_rms, picture)
        latents = [self.kind.latents(last, position) for position in range(len(jobs))]
        return [last if found is None else found for found in latents]

    def _picture(self, image: ImageModel, state: Any) -> UInt8[np.ndarray, "h w 3"]:
        """What the loop has so far: clean latents as the network sees them behind the noise, or else renders."""
        from shared.artifacts.contact_sheet import tiled
        from shared.artifacts.pixels import to_uint8
        from shared.diffusion.sampling import SampleState

        if not isinstance(state, SampleState):
            return tiled(list(to_uint8(state.pixels)))
        latents = state.latents if state.x0 is None else state.x0
        show = self.context.models.latent_preview(image.codec)
        return tiled([frame for sample in latents for frame in show.frames(sample)])

    def _finished(self, model: Any, job: Job, record: RunRecord, last: Any) -> tuple[Result, list[Path]]:
        with _latents_kept(job, last, record):
            result = self.kind.finish(model, job.recipe, last, record, self.where, self._timed)
            return result, list(save(job, result, self.context.signer, self._timed))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._times.append(Timed(stage, time.perf_counter() - started))

    def _told(self) -> Iterator[Timed]:
        """The times since the last call."""
        times, self._times = self._times, []
        yield from times


@contextmanager
def _latents_kept(job: Job, latents: Any, record: RunRecord) -> Iterator[None]:
    """Keep latents in a file beside the output while they are decoded and written inside.

    If that fails the file stays, and the error says how to go on from it; else it goes, on Ctrl-C as well.
    """
    from torch import Tensor

    if job.output.path is None or job.latents is not None or not isinstance(latents, Tensor):
        yield
        return
    from shared.artifacts.latents_file import latents_path, save_latents

    path = latents_path(job.output.path)
    failed = False
    try:
        save_latents(path, latents, record)
        try:
            yield
        except Exception as error:
            failed = True
            output = shlex.quote(job.output.path)
            hint = f"What was sampled is kept: kinoform decode {shlex.quote(str(path))} -o {output}"
            if isinstance(error, KinoformError):
                error.hint = f"{error.hint.rstrip('.')}. {hint}" if error.hint else hint
                raise
            what = f"decoding failed: {type(error).__name__}: {error}"
            raise KinoformError(what, hint=hint) from error
    finally:
        if not failed:
            with suppress(OSError):  # a folder that is lost meanwhile says so when the output is written
                path.unlink()

"""From what a manifest says to drafts of its tasks: counts, the matrix and chains.

What all of it would make is counted before anything is made.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from lab.batch.manifest.choices import Choices, has_choices
from lab.batch.manifest.drafts import Draft
from lab.batch.manifest.keys import (
    JOB_KEYS,
    KIND,
    MATRIX_KEYS,
    MOST_TASKS,
    STEP_KEYS,
    JobKeys,
    StepKeys,
    at,
    check_known,
    moved,
    recipe_keys,
    step_named,
)
from lab.batch.manifest.outputs import check_name, short_slug
from lab.batch.manifest.recipes import Defaults, preset_values, said_values, whole
from lab.batch.manifest.sources import Said, Source
from lab.batch.step import Step
from shared.errors import InputError


def expand(source: Source) -> dict[str, Draft]:
    """All drafts by id: those of the jobs, then those of the matrix, each followed by its chain.

    Raises InputError for a key or kind that is unknown, an id there is twice, and more than MOST_TASKS in all.
    """
    expander = _Expander(source)
    matrix = axes(source.matrix)
    jobs = [(job, expander.keys(job)) for job in source.jobs]
    each = expander.keys(Said("matrix", {}))
    combined = math.prod(map(len, matrix.values())) if matrix else 0
    total = sum(keys.count * (1 + links(keys.then)) for _, keys in jobs)
    total += combined * each.count * (1 + links(each.then))
    if total > MOST_TASKS:
        place = "matrix" if combined > MOST_TASKS else "manifest"
        raise InputError(place, expected=f"at most {MOST_TASKS} tasks in all", got=total)
    if not total:
        raise InputError("jobs", expected="at least one job, or a matrix", got="none")
    expander.width = max(3, len(str(sum(keys.count for _, keys in jobs) + combined * each.count)))
    for job, keys in jobs:
        expander.job(job, keys)
    for values in product(*matrix.values()) if matrix else ():
        expander.job(Said("matrix", dict(zip(matrix, values, strict=True))), each)
    return expander.drafts


def axes(matrix: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of every key of a matrix. One value is a list of one."""
    found = {}
    for key, value in matrix.items():
        if key in JOB_KEYS - MATRIX_KEYS:
            raise InputError(at("matrix", key), expected="kind, preset, or a key of a recipe", got=key,
                             hint="Put it into the defaults")  # fmt: skip
        found[key] = value if isinstance(value, list) else [value]
        if not found[key] or isinstance(value, dict):
            raise InputError(at("matrix", key), expected="a list of values", got=value)
    return found


def links(then: Sequence[Mapping[str, Any]]) -> int:
    """How many steps there are in a chain."""
    total = 0
    for step in then:
        following = step.get("then")
        if isinstance(following, list):
            total += links([one for one in following if isinstance(one, dict)])
    return total + len(then)


class _Expander:
    """Makes drafts, numbered as they come. width: of their numbers."""

    def __init__(self, source: Source) -> None:
        self.defaults = Defaults(source.defaults)
        self.choices = Choices(source.folder)
        self.drafts: dict[str, Draft] = {}
        self.width = 3
        self.number = 0
        self._default_keys: JobKeys | None = None

    def keys(self, job: Said) -> JobKeys:
        """A job's keys that are of no recipe, the defaults' where it has none. Its kind is looked at later."""
        own = {key: value for key, value in job.keys.items() if key in JOB_KEYS and key != "kind"}
        if not own and self._default_keys is not None:
            return self._default_keys
        try:
            keys = JobKeys.parse({**self.defaults.own, **own})
        except InputError as error:
            place = job.place if error.what.partition(".")[0] in own else "defaults"
            raise moved(error, at(place, error.what)) from error
        if not own:
            self._default_keys = keys
        return keys

    def job(self, job: Said, keys: JobKeys) -> None:
        """A job so many times as it counts, each with its chain."""
        said, place = job.keys, job.place
        kind = KIND if keys.kind is None else keys.kind
        step = step_named(said.get("kind", kind), place if "kind" in said else "defaults")
        check_known(said, JOB_KEYS, step, place)
        own = {**preset_values(step, said.get("preset"), place), **said_values(said, step, place)}
        values = {**self.defaults.of(step, preset="preset" not in said), **own}
        seeded = "seed" in recipe_keys(step)
        if keys.count > 1 and not seeded:
            raise InputError(at(place, "count"), expected=f"1: {step.name} has no seed to count up", got=keys.count)
        if keys.name is not None:
            check_name(keys.name, at(place, "name"))
        if seeded and "seed" not in values:
            values["seed"] = step.recipe.model_fields["seed"].default
        first = whole(values.get("seed"))
        for number in range(keys.count):
            if keys.count > 1 and first is not None:
                values = {**values, "seed": first + number}
            self.number += 1
            draft = Draft(
                id="", place=place, step=step, keys=keys, said=said, defaults=self.defaults.said, values=dict(values),
                index=f"{self.number:0{self.width}d}", tags=tuple(keys.tags or ()), priority=keys.priority,
            )  # fmt: skip
            self._draw(draft)
            if keys.name is None:
                draft.id = f"{draft.index}-{short_slug(draft.words)}"
            else:
                draft.id = keys.name if keys.count == 1 else f"{keys.name}-{number + 1}"
            self._add(draft)
            if keys.then:
                self._chain(draft, draft.id, keys.then, at(place if "then" in said else "defaults", "then"))

    def _chain(self, parent: Draft, job: str, then: Sequence[Mapping[str, Any]], place: str) -> None:
        """What follows a draft. job: the id that the chain began with."""
        unnamed: Counter[str] = Counter()
        for number, said in enumerate(then):
            here = f"{place}.{number}"
            step = step_named(said.get("kind"), here)
            check_known(said, STEP_KEYS, step, here)
            try:
                keys = StepKeys.parse({key: value for key, value in said.items() if key in STEP_KEYS})
            except InputError as error:
                raise moved(error, at(here, error.what)) from error
            if keys.name is None:
                unnamed[step.name] += 1
                id = f"{parent.id}/{step.name}" + (f"-{unnamed[step.name]}" if unnamed[step.name] > 1 else "")
            else:
                check_name(keys.name, at(here, "name"))
                id = f"{job}/{keys.name}"
            draft = Draft(
                id=id, place=here, step=step, keys=keys, said=said, defaults=self.defaults.followed,
                values=self._chained(parent, step, keys, said, here), index=parent.index,
                tags=parent.tags if keys.tags is None else tuple(keys.tags),
                priority=keys.priority if "priority" in said else parent.priority,
                prompt=parent.prompt, seed=parent.seed, parent=parent.id,
            )  # fmt: skip
            if "prompt" in said:
                self._draw(draft)
            draft.seed = draft.values.get("seed", parent.seed)
            self._add(draft)
            self._chain(draft, job, keys.then, f"{here}.then")

    def _chained(
        self, parent: Draft, step: Step, keys: StepKeys, said: Mapping[str, Any], place: str
    ) -> dict[str, Any]:
        """Values of a step of a chain: its own, else the prompt and seed before it and the model of the defaults."""
        before = {"prompt": parent.prompt, "seed": parent.seed}
        known = recipe_keys(step)
        inherited = {key: value for key, value in before.items() if value is not None and key in known}
        own = {**preset_values(step, keys.preset, place), **said_values(said, step, place)}
        return {**self.defaults.of_chain(step), **inherited, **own}

    def _draw(self, draft: Draft) -> None:
        """Draws the choices in a prompt, by the seed."""
        prompt = draft.values.get("prompt")
        draft.seed = draft.values.get("seed", draft.seed)
        if isinstance(prompt, str):
            draft.prompt = prompt
            if has_choices(prompt):
                seed, place = whole(draft.seed) or 0, draft.place_of("prompt")
                draft.prompt, chosen = self.choices.draw(prompt, seed, place)
                draft.values["prompt"] = draft.prompt
                draft.template = prompt if chosen else None

    def _add(self, draft: Draft) -> None:
        if draft.id in self.drafts:
            raise InputError(at(draft.place, "name"), expected="a name of its own for every task",
                             got=f"{draft.id}, as at {self.drafts[draft.id].place}")  # fmt: skip
        self.drafts[draft.id] = draft

"""What a manifest and its jobs say beside the keys of recipes, and where in it that stands.

A place is words: "jobs.3.seed", "line 7, seed", "picture cat.png, then.0.scale".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import Field

from lab.batch.step import Step
from lab.batch.steps import steps
from shared.errors import InputError
from shared.recipe import Recipe, did_you_mean

VERSION = 1
MOST_TASKS = 200_000  # of a manifest, with everything that its counts, its matrix and its chains make
KIND = "clip"  # of a job, where neither it nor the defaults say another
SIZE = "size"  # "64x64", for the keys width and height

UNKNOWN = "unknown key "  # begins what is said of one
LINED = ("line ", "picture ")  # how places begin that are no keys

Tag = Annotated[str, Field(min_length=1, max_length=100)]


class StepKeys(Recipe):
    """What is said of a step of a chain, beside the keys of its recipe."""

    kind: str | None = Field(None, description="what is made: a kind of result, or a tool")
    name: str | None = Field(None, min_length=1, max_length=100, description="a name that no other has")
    preset: str | None = Field(None, min_length=1, description="where the recipe's values start from")
    output: str | None = Field(
        None, min_length=1, max_length=1000,
        description="file below the folder of results; may hold {name} {index} {seed} {prompt} {kind}",
    )  # fmt: skip
    tags: list[Tag] | None = Field(None, max_length=100, description="words to find it by")
    priority: int = Field(0, ge=-1_000_000, le=1_000_000, description="the higher the sooner")
    inputs: dict[str, str] = Field(
        default_factory=dict, description="keys of the recipe: the jobs whose output fills them"
    )
    then: list[dict[str, Any]] = Field(default_factory=list, description="what is made from its output")


class JobKeys(StepKeys):
    """What is said of a job, beside the keys of its recipe."""

    count: int = Field(1, ge=1, le=MOST_TASKS, description="so many, with seeds counted up")


class ManifestKeys(Recipe):
    """The whole of a manifest."""

    version: int = Field(VERSION, ge=1, description="of the format")
    defaults: dict[str, Any] = Field(
        default_factory=dict, description="keys that every job has unless it says otherwise"
    )
    matrix: dict[str, Any] = Field(default_factory=dict, description="values of keys: a job for each combination")
    jobs: list[dict[str, Any]] = Field(default_factory=list, description="the jobs")


STEP_KEYS = frozenset(StepKeys.model_fields)
JOB_KEYS = frozenset(JobKeys.model_fields)
NOT_IN_DEFAULTS = frozenset({"name", "inputs"})
MATRIX_KEYS = frozenset({"kind", "preset"})  # of a job's own, those that a matrix may vary


def at(place: str, key: str) -> str:
    """The place of `key` in what stands at `place`."""
    inner = not place.startswith(LINED) or ", " in place
    return f"{place}{'.' if inner else ', '}{key}"


def moved(error: InputError, what: str) -> InputError:
    """The same complaint, about `what`."""
    return InputError(what, expected=error.expected, got=error.got, hint=error.hint)


def step_named(name: object, place: str) -> Step:
    """The step of that name. Raises InputError naming the nearest."""
    if isinstance(name, str) and name in steps():
        return steps()[name]
    raise InputError(at(place, "kind"), expected=", ".join(steps()), got="nothing" if name is None else name,
                     hint=did_you_mean(name, steps()) if isinstance(name, str) else "")  # fmt: skip


def recipe_keys(step: Step) -> frozenset[str]:
    """What may be said of a step's recipe: its keys, and a size for its width and height."""
    return _recipe_keys(step.recipe)


@cache
def _recipe_keys(recipe: type[Recipe]) -> frozenset[str]:
    names = frozenset(recipe.model_fields)
    return names | {SIZE} if {"width", "height"} <= names else names


def check_known(said: Mapping[str, Any], own: frozenset[str], step: Step, place: str) -> None:
    """Refuse a key that is neither of `own` nor of the step's recipe, naming the nearest and the kinds that have it."""
    known = recipe_keys(step)
    for key in said:
        if key not in own and key not in known:
            raise _unknown(key, own | known, f"a key of {step.name}", place)


def check_defaults(said: Mapping[str, Any]) -> None:
    """Refuse a default that no job could have. What one kind alone has is none of the others' business."""
    for key in said:
        if key in NOT_IN_DEFAULTS:
            raise InputError(at("defaults", key), expected="it in jobs alone", got=said[key])
        if key not in JOB_KEYS and not _having(key):
            everything = JOB_KEYS.union(*map(recipe_keys, steps().values())) - NOT_IN_DEFAULTS
            raise _unknown(key, everything, "a key of some kind", "defaults")


def _having(key: str) -> list[str]:
    return [name for name, step in steps().items() if key in recipe_keys(step)]


def _unknown(key: str, known: frozenset[str], expected: str, place: str) -> InputError:
    having = _having(key)
    if having:
        hint = f"It is a key of {', '.join(having)}"
    else:
        hint = did_you_mean(key, sorted(known.union(*map(recipe_keys, steps().values()))))
        near = hint.removeprefix("Did you mean ").removesuffix("?")
        if near and near not in known:
            hint = f"Did you mean {near}, a key of {', '.join(_having(near))}?"
    return InputError(UNKNOWN + at(place, key), expected=expected, hint=hint)

"""Recipes as a manifest gives them: defaults, presets and what a job says; validated, with files that are there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from lab.batch.manifest.drafts import Draft
from lab.batch.manifest.keys import JOB_KEYS, SIZE, at, moved, recipe_keys
from lab.batch.step import Step
from lab.flags import given_values
from lab.kinds import kinds
from lab.kinds.settled import Settler
from shared.errors import InputError, ModelError
from shared.recipe import load_preset, moved_file, preset_names, weighted_file

GIVEN_LATER = "what another task makes"  # for a file's name while the rest is validated
EMBEDDED = "world"  # a model's name that no folder of the name hides, as `shared.models.source` has it
FOLLOWS = ("model",)  # what a step of a chain takes from the defaults


class Defaults:
    """Keys that every job has unless it says otherwise. own: those that are of no recipe."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.said = said
        self.own = {key: value for key, value in said.items() if key in JOB_KEYS}
        self.followed = {key: said[key] for key in FOLLOWS if key in said}
        self._of: dict[tuple[str, bool], dict[str, Any]] = {}

    def of(self, step: Step, *, preset: bool) -> dict[str, Any]:
        """What they say of a step's recipe. Keys that are of other steps alone are passed over.

        preset: whether theirs counts; a job that names one has that instead, which stands over all that they say.
        """
        if (step.name, preset) not in self._of:
            name = self.said.get("preset") if preset and presets(step) else None
            values = self._values(self.said, step)
            self._of[step.name, preset] = {**preset_values(step, name, "defaults"), **values}
        return self._of[step.name, preset]

    def of_chain(self, step: Step) -> dict[str, Any]:
        """The same of a step that follows another: the model alone. The rest is meant for jobs of other kinds."""
        return self._values(self.followed, step) if self.followed else {}

    def _values(self, said: Mapping[str, Any], step: Step) -> dict[str, Any]:
        known = recipe_keys(step)
        return said_values({key: value for key, value in said.items() if key in known}, step, "defaults")


def said_values(said: Mapping[str, Any], step: Step, place: str) -> dict[str, Any]:
    """The keys of a step's recipe among what is said at `place`, with a size as width and height."""
    if SIZE in said and SIZE in recipe_keys(step):
        both = [key for key in ("width", "height") if key in said and SIZE not in step.recipe.model_fields]
        if both:
            raise InputError(at(place, SIZE), expected="size, or width and height", got=f"size and {both[0]}")
    try:
        return given_values(
            step.recipe, {key: value for key, value in said.items() if key not in JOB_KEYS}, kind=step.name
        )
    except InputError as error:
        raise moved(error, at(place, error.what.removeprefix("--"))) from error


def preset_values(step: Step, name: object, place: str) -> dict[str, Any]:
    """The keys and values of a preset; none where there is no name."""
    if name is None:
        return {}
    if not isinstance(name, str):
        raise InputError(at(place, "preset"), expected=" or ".join(presets(step)) or "none", got=name)
    try:
        return _loaded(step.name, name)
    except InputError as error:
        raise moved(error, at(place, "preset")) from error


@cache
def _loaded(kind: str, name: str) -> dict[str, Any]:
    return load_preset(kind, name)


def presets(step: Step) -> list[str]:
    """The names of a step's presets."""
    return _presets(step.name)


@cache
def _presets(kind: str) -> list[str]:
    return preset_names(kind)


def whole(value: object) -> int | None:
    """A whole number as recipes would read it; None where they would not."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdigit():
        return int(value)
    return None


class Files:
    """Finds the files and models that a manifest in `folder` names. Each is looked for once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, str | None] = {}
        self._models: dict[str, str] = {}
        self._settler = Settler()

    def file(self, name: str) -> str | None:
        """A file's absolute path; None where there is none."""
        if name not in self._files:
            path = os.path.abspath(self.folder / name) if "\0" not in name else ""
            self._files[name] = path if os.path.exists(path) else None
        return self._files[name]

    def model(self, name: str) -> str:
        """The absolute path of a model that lies in the manifest's folder or the working folder; else its name."""
        if name not in self._models:
            inside = [os.path.abspath(folder / Path(name).expanduser()) for folder in (self.folder, Path())]
            found = next((path for path in inside if os.path.exists(path)), name)
            self._models[name] = name if name == EMBEDDED else found
        return self._models[name]

    def settled(self, step: str, recipe: Any) -> Any:
        """A kind's recipe, settled; as it is where its model is not there, which its task will say."""
        if step in kinds():
            model = self.model(recipe.model)
            with suppress(ModelError):
                moved = recipe if model == recipe.model else recipe.model_copy(update={"model": model})
                return self._settler(kinds()[step], moved)
        return recipe


def recipe_of(draft: Draft, files: Files) -> dict[str, Any]:
    """All keys of a draft's recipe with their values as JSON types; None for what its inputs fill.

    Raises InputError, at the place of the key, for a value that the recipe refuses and a file that is not there.
    """
    recipe = draft.step.recipe
    try:
        parsed = recipe.parse({**draft.values, **dict.fromkeys(draft.inputs, GIVEN_LATER)})
    except InputError as error:
        key, dot, inner = error.what.partition(".")
        if key not in recipe.model_fields:  # keys that do not go together
            raise InputError(draft.place, expected=error.expected, hint=error.hint) from error
        raise moved(error, draft.place_of(key) + dot + inner) from error
    values = files.settled(draft.step.name, parsed).resolved()
    for key in recipe.file_keys():
        if key in draft.inputs:
            values[key] = None
        elif values[key] is not None:
            path = files.file(values[key])
            if path is None or (os.path.isdir(path) and "clip" not in draft.step.takes.get(key, ())):
                raise InputError(draft.place_of(key), expected="a file that is there", got=values[key],
                                 hint=f"Paths start in {files.folder}")  # fmt: skip
            values[key] = path
    for key in recipe.files_keys():
        values[key] = [_found(text, draft.place_of(key), files) for text in values[key]]
    if isinstance(values.get("model"), str):
        values["model"] = files.model(values["model"])
    return values


def _found(text: str, place: str, files: Files) -> str:
    """One of several files, FILE or FILE:WEIGHT, by its absolute path."""
    name, _ = weighted_file(text)
    path = files.file(name)
    if path is None or os.path.isdir(path):
        raise InputError(place, expected="a file that is there", got=name, hint=f"Paths start in {files.folder}")
    return moved_file(text, path)

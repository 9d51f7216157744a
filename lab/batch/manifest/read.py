"""From a file to tasks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.batch.manifest.expand import expand
from lab.batch.manifest.links import Links, in_order
from lab.batch.manifest.outputs import Outputs
from lab.batch.manifest.recipes import Files, recipe_of
from lab.batch.manifest.sources import Source, read_source
from lab.batch.manifest.yaml_file import with_line
from lab.batch.steps import steps
from lab.batch.task import Task
from shared.errors import InputError
from shared.recipe import moved_file, weighted_file


def read_manifest(path: str | os.PathLike[str], *, defaults: Mapping[str, Any] | None = None) -> list[Task]:
    """The tasks of a manifest, in its order: jobs, then the matrix, each followed by its chain.

    path: .yaml, .json, .jsonl with a job a line, .txt with a prompt a line, or a folder of pictures.
    defaults: keys that every job has unless it says otherwise; they stand over the manifest's own. Files that these
    name are looked for from the working folder, those of the manifest from its own.
    Raises InputError for the first thing that is wrong, and says where it stands.
    """
    source = read_source(Path(path), _from_here(defaults or {}))
    try:
        return _tasks(source)
    except InputError as error:
        if source.data is None:
            raise
        raise with_line(error, source.data) from error


def _tasks(source: Source) -> list[Task]:
    drafts = expand(source)
    links, files, outputs = Links(), Files(source.folder), Outputs()
    tasks: dict[str, Task] = {}
    for draft in in_order(drafts):
        sort = links.find(draft)
        recipe = recipe_of(draft, files)
        draft.seed = recipe.get("seed", draft.seed)
        taken = {**recipe, **{key: tasks[id].output for key, id in draft.inputs.items()}} if draft.inputs else recipe
        output = outputs.name(draft, sort, links.suffix(draft, sort, taken))
        tasks[draft.id] = Task(
            id=draft.id, step=draft.step.name, recipe=recipe, inputs=draft.inputs, output=output,
            template=draft.template, tags=draft.tags, priority=draft.priority, place=draft.place,
        )  # fmt: skip
    outputs.check_apart()
    return [tasks[id] for id in drafts]


def _from_here(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults with files by absolute paths."""
    files = {key for step in steps().values() for key in step.recipe.file_keys()}
    lists = {key for step in steps().values() for key in step.recipe.files_keys()}

    def from_here(key: str, value: Any) -> Any:
        if key in files and isinstance(value, str) and value:
            return os.path.abspath(value)
        if key in lists and isinstance(value, list):
            return [moved_file(text, os.path.abspath(weighted_file(text)[0])) for text in map(str, value)]
        return value

    return {key: from_here(key, value) for key, value in defaults.items()}

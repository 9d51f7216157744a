"""The key of a task's content: equal work has equal keys, in whichever manifest, under whatever name.

It hashes everything that decides the bytes: the step, the whole recipe, the weights, the files that go in, the version;
of what another task makes, that task's own key stands in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lab.batch.ledger.rows import Entry
from lab.batch.step import Step
from lab.batch.steps import steps
from lab.batch.task import Task
from lab.jobs.record import parts_of, used_hashes
from lab.kinds import kinds
from lab.kinds.pipelines import call_asked
from shared.artifacts.files import sha256
from shared.models.pipelines.keys import OWN
from shared.models.source import find_model
from shared.models.weight_files import named_files, weight_hashes
from shared.recipe import weighted_file
from shared.version import VERSION

COMPANIED = (".obj", ".stl")  # such a file names others beside it: a copy under another name is not the same
ONE_BY_ONE = ("prompt", "negative", "seed")  # what tasks that are sampled together differ in


def entries(tasks: Sequence[Task]) -> list[Entry]:
    """Tasks as the ledger takes them. Raises ModelError for a model that is not there."""
    for remembered in (_own, _weights, _hashes, _file_sha256):  # what they read may be another file by now
        remembered.cache_clear()
    by_id = {task.id: task for task in tasks}
    affinities = {task.id: _affinity(task) for task in tasks}
    weights: dict[str, str] = {}  # of tasks of equal affinity: their models and adapters are the same
    keys: dict[str, str] = {}
    for task in tasks:
        todo = [task]
        while todo:  # what goes in comes first, however long the chain
            last = todo[-1]
            missing = [by_id[id] for id in last.inputs.values() if id not in keys]
            if missing:
                todo += missing
            else:
                affinity = affinities[last.id]
                if affinity not in weights:
                    weights[affinity] = _weights_of(last)
                keys[last.id] = _key(last, weights[affinity], {name: keys[id] for name, id in last.inputs.items()})
                todo.pop()
    return [_entry(task, keys[task.id], affinities[task.id]) for task in tasks]


def _entry(task: Task, key: str, affinity: str) -> Entry:
    own = _own(task.step, task.recipe.get("model", ""), task.recipe.get("pipeline_class"))
    defaults = {name: value for name, value in _defaults(task.step).items() if name not in own}
    recipe = {name: value for name, value in task.recipe.items() if name not in defaults or value != defaults[name]}
    return Entry(
        task.id, task.step, recipe, task.inputs, task.output, key, affinity, task.template, task.tags,
        task.priority,
    )  # fmt: skip


def _key(task: Task, weights: str, inputs: Mapping[str, str]) -> str:
    step = steps()[task.step]
    files = {name: _file_sha256(task.recipe[name]) for name in step.recipe.file_keys() if task.recipe.get(name)}
    lists = {name: _weighted(task.recipe[name]) for name in step.recipe.files_keys() if task.recipe.get(name)}
    recipe = {name: value for name, value in task.recipe.items() if name not in {*files, *lists, *inputs}}
    ending = Path(task.output).suffix.lower()
    own = task.output if ending in COMPANIED else ""
    return _digest([task.step, ending, own, recipe, weights, {**files, **lists}, inputs, VERSION])


def _affinity(task: Task) -> str:
    """The model, and what must be equal in tasks that are sampled together; recipes that differ in neither prompt nor
    seed alone are not.
    """
    alike = {name: value for name, value in task.recipe.items() if name not in ONE_BY_ONE}
    model = str(task.recipe.get("model", "")).replace("|", "/")
    return f"{model}|{task.step}|{_digest([alike, sorted(task.inputs)])[:16]}"


def _weights_of(task: Task) -> str:
    if "model" not in task.recipe:
        return ""
    recipe = steps()[task.step].recipe.model_construct(**task.recipe)
    return _weights(task.step, task.recipe["model"], *parts_of(recipe))


@cache
def _own(step: str, model: str, pipeline_class: str | None) -> tuple[str, ...]:
    """Keys whose default is not the recipe's: they are kept, whatever their value."""
    if step not in kinds():
        return ()
    return () if call_asked(kinds()[step], model, pipeline_class) is None else OWN


@cache
def _weights(step: str, model: str, brings: tuple[str, ...], uses: tuple[str, ...]) -> str:
    """One hash for all weights that a kind uses of a model; of one on the hub, its name."""
    path = find_model(model)
    return model if path is None else _digest(used_hashes(kinds()[step], path, _hashes(path), brings, uses))


@cache
def _hashes(path: Path) -> dict[str, str]:
    return weight_hashes(path)


@cache
def _file_sha256(file: str) -> str:
    """Of a file, or of the shards that it is the index of."""
    return "".join(map(sha256, named_files(Path(file))))


def _weighted(texts: Sequence[str]) -> list[tuple[str, float]]:
    """What is in each of several files, and its weight."""
    return [(_file_sha256(path), weight) for path, weight in map(weighted_file, texts)]


@cache
def _defaults(step: str) -> dict[str, Any]:
    found: Step = steps()[step]
    values = {
        name: field.get_default(call_default_factory=True)
        for name, field in found.recipe.model_fields.items()
        if not field.is_required()
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _digest(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()

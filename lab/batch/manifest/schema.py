"""The manifest as JSON Schema, from the models that read it: an editor then completes every key of every kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lab.batch.manifest.keys import (
    JOB_KEYS,
    MATRIX_KEYS,
    NOT_IN_DEFAULTS,
    SIZE,
    VERSION,
    JobKeys,
    ManifestKeys,
    StepKeys,
    recipe_keys,
)
from lab.batch.manifest.recipes import presets
from lab.batch.step import Step
from lab.batch.steps import steps
from shared.plugins import OneOf
from shared.recipe import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def manifest_schema() -> Schema:
    """The schema of YAML and JSON manifests; of a line of JSON lines it is `#/properties/jobs/items`.

    A job of each step is a definition `NAME_job`, the step in a chain `NAME_step`. It is stricter than the reader in
    one thing: numbers in quotes, which that takes, are none here.
    """
    definitions: Schema = {}
    for step in steps().values():
        definitions[f"{step.name}_job"] = _said(step, JobKeys, definitions)
        definitions[f"{step.name}_step"] = _said(step, StepKeys, definitions) | {"required": ["kind"]}
    every = _merged(definitions[f"{name}_job"]["properties"] for name in steps())
    every["kind"] = {"enum": list(steps()), "description": JobKeys.model_fields["kind"].description}
    varied = {key: value for key, value in every.items() if key not in JOB_KEYS - MATRIX_KEYS}
    whole = _properties(ManifestKeys, definitions)
    whole["version"] |= {"maximum": VERSION}
    whole["defaults"] |= _closed({key: value for key, value in every.items() if key not in NOT_IN_DEFAULTS})
    whole["matrix"] |= _closed({key: _one_or_more(value) for key, value in varied.items()})
    whole["jobs"]["items"] = {"anyOf": [{"$ref": f"#/$defs/{name}_job"} for name in steps()]}
    return {"$schema": DIALECT, "title": "Kinoform manifest", **_closed(whole), "$defs": definitions}


def _said(step: Step, own: type[StepKeys], definitions: Schema) -> Schema:
    """What may be said of a step: its recipe's keys and `own`."""
    properties = _properties(own, definitions)
    properties["kind"] = {"const": step.name, "description": properties["kind"]["description"]}
    properties["preset"] = {"enum": presets(step), "description": properties["preset"]["description"]}
    taken = {key: {"type": "string", "description": f"what makes {' or '.join(sorted(sorts))}"}
             for key, sorts in step.takes.items()}  # fmt: skip
    properties["inputs"] |= _closed(taken)
    properties["then"]["items"] = {"anyOf": [{"$ref": f"#/$defs/{name}_step"} for name in steps()]}
    recipe = _properties(step.recipe, definitions)
    if SIZE not in recipe and SIZE in recipe_keys(step):
        recipe[SIZE] = {"type": "string", "pattern": "^[0-9]+[xX][0-9]+$", "description": "WIDTHxHEIGHT in pixels"}
    if not presets(step):
        del properties["preset"]
    if not taken:
        del properties["inputs"]
    return {"description": (step.recipe.__doc__ or "").partition("\n")[0], **_closed({**recipe, **properties})}


def _properties(model: type[Recipe], definitions: Schema) -> Schema:
    """Schemas of a model's keys; what they refer to goes into `definitions`."""
    schema = model.model_json_schema()
    definitions.update(schema.get("$defs", {}))
    properties: Schema = schema.get("properties", {})
    for key, field in model.model_fields.items():
        value = properties[key]
        value.pop("title", None)
        if value.get("default", 0) is None:  # which an editor would write
            del value["default"]
        names = next((one.names() for one in field.metadata if isinstance(one, OneOf)), None)
        if names is not None:
            value["enum"] = names
    return properties


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _one_or_more(value: Schema) -> Schema:
    return {"anyOf": [{"type": "array", "items": value, "minItems": 1}, value]}


def _merged(every: Iterable[Schema]) -> Schema:
    """The keys of all; where one key has several schemas, any of them."""
    found: dict[str, list[Schema]] = {}
    for properties in every:
        for key, value in properties.items():
            others = found.setdefault(key, [])
            if value not in others:
                others.append(value)
    return {key: values[0] if len(values) == 1 else {"anyOf": values} for key, values in found.items()}

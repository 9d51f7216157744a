"""The JSON Schema: valid, it has every key of every kind, and takes and refuses what the reader does."""

import json
from typing import Any

import jsonschema
import pytest
import yaml

from lab.batch.manifest import manifest_schema, read_manifest
from lab.batch.manifest.keys import JobKeys, ManifestKeys, StepKeys
from lab.batch.steps import steps
from shared.errors import InputError

SCHEMA: dict[str, Any] = manifest_schema()


def accepted(said) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(said)


def test_it_is_a_schema_as_json_can_hold_it():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA, allow_nan=False)) == SCHEMA


@pytest.mark.parametrize("name", steps())
def test_every_key_of_every_step_is_there(name):
    step = steps()[name]
    for definition, own in (("job", JobKeys), ("step", StepKeys)):
        schema = SCHEMA["$defs"][f"{name}_{definition}"]
        optional = {"preset", "inputs", "size"}
        assert set(schema["properties"]) - optional == ({*own.model_fields} | {*step.recipe.model_fields}) - optional
        assert schema["additionalProperties"] is False
        assert set(schema["properties"].get("inputs", {}).get("properties", {})) == set(step.takes)
        for key, field in step.recipe.model_fields.items():
            assert schema["properties"][key].get("description", "") == (field.description or "")
    for part in ("defaults", "matrix"):
        assert set(step.recipe.model_fields) <= set(SCHEMA["properties"][part]["properties"])


def test_keys_of_the_whole_are_there():
    assert set(SCHEMA["properties"]) == set(ManifestKeys.model_fields)
    assert set(SCHEMA["properties"]["matrix"]["properties"]) >= {"kind", "preset", "size"}
    assert not {"name", "count", "then", "tags"} & set(SCHEMA["properties"]["matrix"]["properties"])
    assert not {"name", "inputs"} & set(SCHEMA["properties"]["defaults"]["properties"])


SAME = [  # YAML of jobs, and whether the reader takes it
    ("{prompt: a}", True),
    ("{prompt: a, kind: clip, preset: draft, size: 64x64, count: 2, tags: [x], priority: 3}", True),
    ("{prompt: a, kind: asset, field: grid, guidance: classifier-free}", True),
    ("{prompt: a, kind: image, then: [{kind: upscale, scale: 3, then: [{kind: describe}]}]}", True),
    ("{prompt: a, width: null, name: x, output: 'a/{name}.mp4'}", True),
    ("{prompt: a, kind: image, frames: 8}", False),
    ("{prompt: a, kind: imgae}", False),
    ("{prompt: a, stepps: 8}", False),
    ("{prompt: a, steps: 0}", False),
    ("{prompt: a, steps: [1]}", False),
    ("{prompt: a, seed: -1}", False),
    ("{prompt: a, seed: 18446744073709551616}", False),
    ("{prompt: a, seed: true}", False),
    ("{prompt: a, size: big}", False),
    ("{prompt: a, preset: darft}", False),
    ("{prompt: a, guidance: strong}", False),
    ("{prompt: a, count: 0}", False),
    ("{prompt: a, tags: x}", False),
    ("{prompt: a, then: [{scale: 2}]}", False),
    ("{prompt: a, then: [{kind: upscale, scale: 99}]}", False),
    ("{prompt: a, inputs: {picture: x}}", False),
    ("{prompt: '', kind: image}", False),
]


@pytest.mark.parametrize(("job", "right"), SAME)
def test_it_takes_what_the_reader_takes(tmp_path, job, right):
    manifest = tmp_path / "batch.yaml"
    manifest.write_text(f"version: 1\njobs: [{job}]")
    assert accepted(yaml.safe_load(manifest.read_text())) is right
    if right:
        assert read_manifest(manifest)
    else:
        with pytest.raises(InputError):
            read_manifest(manifest)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ({"defaults": {"kind": "image", "frames": 3, "tags": ["x"]}, "matrix": {"prompt": "a", "seed": [1, 2]}}, True),
        ({"defaults": {"name": "x"}}, False),
        ({"defaults": {"kind": "imgae"}}, False),
        ({"defaults": {"stps": 3}}, False),
        ({"matrix": {"prompt": []}}, False),
        ({"matrix": {"tags": [["x"]]}}, False),
        ({"matrix": {"seed": [1, -1]}}, False),
        ({"matrix": {"kind": ["clip", "image"], "preset": "draft"}}, True),
        ({"version": 2}, False),
        ({"jbos": []}, False),
    ],
)
def test_it_knows_defaults_and_matrix(said, right):
    assert accepted(said) is right


def test_plug_ins_have_their_place(with_plugin):
    steps.cache_clear()
    try:
        names = {f"{name}_job" for name in steps()}
        assert len(names) > 6
        assert names <= set(manifest_schema()["$defs"])
    finally:
        steps.cache_clear()

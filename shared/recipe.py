"""Recipes: one pydantic schema for the YAML file, the command line and Python. No torch here.

A recipe model lives beside what it configures and derives from `Recipe`; presets are YAML files in configs/<kind>/.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from shared.errors import InputError

# configs/ lies beside shared/, in a checkout and in site-packages alike.
CONFIGS = Path(__file__).resolve().parent.parent / "configs"

BOUNDS = {
    "ge": "of at least {}",
    "gt": "above {}",
    "le": "of at most {}",
    "lt": "below {}",
    "multiple_of": "a multiple of {}",
}
PLAIN = {
    "string_type": "text",
    "string_unicode": "text",
    "string_pattern_mismatch": "some words",  # of prompts, whose pattern is no blank text
    "path_type": "a path",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "model_type": "keys with values",
    "dict_type": "keys with values",
    "invalid_key": "a name as key",
}

MOST_LISTED = 16  # keys, where the nearest is named

R = TypeVar("R", bound="Recipe")
SAME_RESULT = "same_result"
FILE = "file"
FILES = "files"
WEIGHTS = "weights"


def same_result(why: str) -> dict[str, Any]:
    """For a field's `json_schema_extra`: it says how to compute, not what comes out, beyond rounding; and why so.

    Of every other field a test shows that it changes what comes out (tests/test_every_key_matters.py).
    """
    return {SAME_RESULT: why}


def input_file(sort: str = "image") -> dict[str, Any]:
    """For a field's `json_schema_extra`: it names a file that is read. A run record keeps its sha256.

    sort: what it holds; WEIGHTS are made by no job.
    """
    return {FILE: sort}


def input_files() -> dict[str, Any]:
    """For a field's `json_schema_extra`: a tuple of texts, each a file that is read, or FILE:WEIGHT (`weighted_file`).
    A run record keeps the sha256 of each."""
    return {FILES: True}


def weighted_file(text: str) -> tuple[str, float]:
    """What `FILE:0.7` names: the file and its weight, which is 1 where none is said.

    >>> weighted_file("a/b.safetensors:0.7"), weighted_file("c.safetensors")
    (('a/b.safetensors', 0.7), ('c.safetensors', 1.0))
    """
    path, colon, weight = text.rpartition(":")
    try:
        return (path, float(weight)) if colon and path else (text, 1.0)
    except ValueError:
        return text, 1.0


def moved_file(text: str, path: str) -> str:
    """`FILE:0.7` with another path, and the same weight, if it says any."""
    file, _ = weighted_file(text)
    return path + text[len(file) :]


class Recipe(BaseModel):
    """Base of every recipe: unknown keys refused, values frozen, no infinities, no `true` where a number belongs."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_as_number(cls, value: Any, info: Any) -> Any:
        if not isinstance(value, bool):
            return value
        field = cls.model_fields.get(info.field_name or "")
        wanted = field.annotation if field is not None else Any
        if _allows(wanted, int, float) and not _allows(wanted, bool):
            raise PydanticCustomError("int_type" if _allows(wanted, int) else "float_type", "a number")
        return value

    @classmethod
    def parse(cls: type[R], data: Any) -> R:
        """Validate `data`. The first thing wrong is one InputError: which key, what was expected, what was got."""
        if not isinstance(data, Mapping):
            raise InputError("recipe", expected="keys with values", got=data)
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            raise _as_input_error(cls, error) from error

    @classmethod
    def file_keys(cls) -> list[str]:
        """Keys that name files to be read (`input_file`)."""
        return list(_marked(cls, FILE))

    @classmethod
    def files_keys(cls) -> list[str]:
        """Keys that each name any number of files to be read (`input_files`)."""
        return list(_marked(cls, FILES))

    @classmethod
    def made_file_keys(cls) -> list[str]:
        """Those of `file_keys` whose files another job may make."""
        return [key for key, sort in _marked(cls, FILE).items() if sort != WEIGHTS]

    def files(self) -> dict[str, str]:
        """The files that it names, by their keys; of a key that names several, "KEY.0", "KEY.1" and so on."""
        found = {key: path for key in self.file_keys() if (path := getattr(self, key)) is not None}
        for key in self.files_keys():
            found |= {f"{key}.{i}": weighted_file(text)[0] for i, text in enumerate(getattr(self, key))}
        return found

    def resolved(self) -> dict[str, Any]:
        """Every field with its value, as JSON types: what a run record keeps."""
        return self.model_dump(mode="json")


def preset_names(kind: str) -> list[str]:
    """Names of the presets of a kind ("clip", "asset", "image", "train"), sorted."""
    return sorted(file.stem for file in (CONFIGS / kind).glob("*.yaml"))


def load_preset(kind: str, name: str) -> dict[str, Any]:
    """The keys and values of configs/<kind>/<name>.yaml. An unknown name is an InputError with the nearest and all."""
    names = preset_names(kind)
    if name not in names:
        raise InputError(
            f"{kind} preset", expected=" or ".join(names) or "none", got=name, hint=did_you_mean(name, names)
        )
    return load_yaml(CONFIGS / kind / f"{name}.yaml")


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. InputError when it is missing, not YAML, repeats a key, or holds no mapping."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"recipe file {path}", expected="a YAML file", got=reason) from error
    try:
        data = yaml.load(text, Loader=_UniqueKeys)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"recipe file {path}{where}", expected="YAML", got=getattr(error, "problem", None)) from error
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise InputError(f"recipe file {path}", expected="keys with values, as in `steps: 20`", got=data)
    return data


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The hint "Did you mean X?" with the nearest of `names`, or "" when none is near."""
    nearest = difflib.get_close_matches(str(name)[:100], list(names), n=1, cutoff=0.5)
    return f"Did you mean {nearest[0]}?" if nearest else ""


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader takes the last of two equal keys in silence; this one refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else id(key))
        return super().construct_mapping(node, deep)


@cache
def _marked(recipe: type[Recipe], mark: str) -> dict[str, Any]:
    """Keys whose fields have a mark in their `json_schema_extra`, and what it says."""
    extras = {key: field.json_schema_extra for key, field in recipe.model_fields.items()}
    return {key: extra[mark] for key, extra in extras.items() if isinstance(extra, dict) and mark in extra}


def _allows(annotation: Any, *wanted: Any) -> bool:
    """Whether one of `wanted` is among the types that `annotation` is made of."""
    return annotation in wanted or any(_allows(part, *wanted) for part in get_args(annotation))


def _as_input_error(model: type[BaseModel], error: ValidationError) -> InputError:
    """The first of pydantic's complaints in our words."""
    first = error.errors(include_url=False)[0]
    location, kind, context = first["loc"], first["type"], first.get("ctx", {})
    name = ".".join(str(part) for part in location) or "recipe"
    if kind == "extra_forbidden":
        names = list(_model_at(model, location[:-1]).model_fields)
        hint = did_you_mean(str(location[-1]), names)
        expected = "a key of the recipe" if hint and len(names) > MOST_LISTED else ", ".join(names)
        return InputError(f"unknown key {name}", expected=expected, hint=hint)
    if kind == "missing":
        return InputError(name, expected="a value", got="nothing")
    got = None if not location else "nothing" if first["input"] is None else first["input"]
    if kind in ("string_too_short", "string_too_long"):
        got = f"{len(got)} characters" if got else "an empty text"
    field = _model_at(model, location[:-1]).model_fields.get(str(location[-1])) if location else None
    expected = _expectation(kind, context, first["msg"], field)
    return InputError(name, expected=expected, got=got, hint=context.get("hint", ""))


def _expectation(kind: str, context: Mapping[str, Any], message: str, field: FieldInfo | None) -> str:
    least, most = context.get("min_length"), context.get("max_length")
    for bound in field.metadata if field else ():
        least, most = getattr(bound, "min_length", least), getattr(bound, "max_length", most)
    if kind.startswith("string_too"):
        return f"{least} to {most} characters" if most else f"at least {least} characters"
    if kind.startswith(("int", "float", "greater", "less", "finite", "multiple")):
        whole = kind.startswith("int") or (field is not None and _allows(field.annotation, int))
        noun = "a whole number" if whole else "a number"
        return noun + _range(field, context)
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    if kind in PLAIN:
        return PLAIN[kind]
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ").removeprefix("Input should be ")


def _range(field: FieldInfo | None, context: Mapping[str, Any]) -> str:
    """The bounds of a number as words: " from 1 to 64", " above 0", " of at least 8, a multiple of 4"."""
    found = {key: context[key] for key in BOUNDS if key in context}
    for bound in field.metadata if field else ():
        found.update({key: getattr(bound, key) for key in BOUNDS if getattr(bound, key, None) is not None})
    if "ge" in found and "le" in found:
        words = [f"from {found['ge']} to {found['le']}"]
        rest = ["multiple_of"]
    else:
        words, rest = [], list(BOUNDS)
    words += [BOUNDS[key].format(found[key]) for key in rest if key in found]
    return " " + ", ".join(words) if words else ""


def _model_at(model: type[BaseModel], location: Iterable[str | int]) -> type[BaseModel]:
    """The recipe model that holds the value at `location`: the deepest model found on the way."""
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        inside = [field.annotation, *get_args(field.annotation)]
        classes = [t for t in inside if isinstance(t, type)]
        model = next((t for t in classes if issubclass(t, BaseModel)), model)
    return model

"""Where manifests come from: YAML, JSON, JSON lines, a text of prompts, a folder of pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.batch.manifest.documents import MOST_BYTES, MOST_DOCUMENT_BYTES, check_nodes, from_json, lines_of, read_bytes
from lab.batch.manifest.keys import KIND, MOST_TASKS, VERSION, ManifestKeys, at, check_defaults, recipe_keys, step_named
from lab.batch.manifest.yaml_file import from_yaml, with_line
from lab.batch.steps import steps
from shared.errors import InputError

YAML, JSON, LINES, TEXT = (".yaml", ".yml"), (".json",), (".jsonl", ".ndjson"), (".txt",)
EVERY_SOURCE = ".yaml, .json, .jsonl, .txt, or a folder of pictures"


@dataclass(frozen=True)
class Said:
    """What a source says of one job. place: where."""

    place: str
    keys: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """All that a source says. folder: what paths in it start from. data: of YAML, the text."""

    folder: Path
    defaults: Mapping[str, Any] = field(default_factory=dict)
    matrix: Mapping[str, Any] = field(default_factory=dict)
    jobs: list[Said] = field(default_factory=list)
    data: bytes | None = None


def read_source(path: Path, defaults: Mapping[str, Any]) -> Source:
    """What `path` says, by its ending. `defaults` stand over those of the file.

    Raises InputError for what cannot be read, is too large, or is no such file.
    """
    check_defaults(defaults)
    if path.is_dir():
        return Source(path, defaults, jobs=_pictures(path, defaults))
    suffix, folder = path.suffix.lower(), path.parent
    if suffix not in (*YAML, *JSON, *LINES, *TEXT):
        raise InputError(f"manifest {path}", expected=EVERY_SOURCE,
                         got="another kind of file" if path.exists() else "no such file")  # fmt: skip
    data = read_bytes(path, MOST_BYTES if suffix in (*LINES, *TEXT) else MOST_DOCUMENT_BYTES)
    if suffix in LINES:
        return Source(folder, defaults, jobs=_lines(data))
    if suffix in TEXT:
        return Source(folder, defaults, jobs=_prompts(data))
    if suffix in YAML:
        said = from_yaml(data)
        try:
            return _document(said, folder, defaults, data)
        except InputError as error:
            raise with_line(error, data) from error
    check_nodes(data)
    return _document(from_json(data.decode()), folder, defaults, None)


def _document(said: Any, folder: Path, defaults: Mapping[str, Any], data: bytes | None) -> Source:
    if not isinstance(said, dict):
        raise InputError("manifest", expected="keys with values: " + ", ".join(ManifestKeys.model_fields),
                         got="an empty file" if said is None else said)  # fmt: skip
    version = said.get("version", VERSION)
    if isinstance(version, (int, float)) and version > VERSION:
        raise InputError("version", expected=f"at most {VERSION}", got=version,
                         hint="The manifest was made for a newer Kinoform")  # fmt: skip
    keys = ManifestKeys.parse(said)
    check_defaults(keys.defaults)
    jobs = [Said(f"jobs.{number}", job) for number, job in enumerate(keys.jobs)]
    return Source(folder, {**keys.defaults, **defaults}, keys.matrix, jobs, data)


def _lines(data: bytes) -> list[Said]:
    """A job a line, as JSON."""
    check_nodes(data)
    jobs: list[Said] = []
    for place, line in lines_of(data):
        keys = from_json(line, place)
        if not isinstance(keys, dict):
            raise InputError(place, expected='a job as a JSON object, such as {"prompt": "a red cube"}', got=keys)
        jobs.append(_one_more(jobs, place, keys))
    return jobs


def _prompts(data: bytes) -> list[Said]:
    """`prompt`, `prompt | negative` or `prompt | negative | seed` a line; blank ones and `#` comments are no jobs.

    As `lab.jobs.prompts` has them, but that bars inside braces are those of choices.
    """
    jobs: list[Said] = []
    for place, line in lines_of(data):
        if line.startswith("#"):
            continue
        parts = [part.strip() for part in _at_bars(line)]
        if len(parts) > 3:
            raise InputError(place, expected="prompt | negative | seed", got=line)
        keys: dict[str, str] = dict(zip(("prompt", "negative", "seed"), parts, strict=False))
        if not keys["prompt"]:
            raise InputError(place, expected="a prompt", got=line)
        if keys.get("seed") and not (keys["seed"].isascii() and keys["seed"].isdigit()):
            raise InputError(at(place, "seed"), expected="a whole number of at least 0", got=keys["seed"])
        jobs.append(_one_more(jobs, place, {key: value for key, value in keys.items() if value}))
    return jobs


def _at_bars(line: str) -> list[str]:
    """The parts between bars that are in no braces."""
    if "{" not in line:
        return line.split("|")
    parts, depth, start = [], 0, 0
    for index, sign in enumerate(line):
        if line[index - 1 : index] != "\\":
            depth += (sign == "{") - (sign == "}")
        if sign == "|" and depth <= 0:
            parts.append(line[start:index])
            start = index + 1
    return [*parts, line[start:]]


def _pictures(folder: Path, defaults: Mapping[str, Any]) -> list[Said]:
    """A job for each picture, in the order of their names, with its caption as prompt, or else its name in words."""
    from shared.training.data.captions import PICTURE_SUFFIXES, caption_from_name

    step = step_named(defaults.get("kind", KIND), "defaults")
    key = next((key for key, sorts in step.takes.items() if "image" in sorts), None)
    if key is None:
        able = [name for name, other in steps().items() if any("image" in sorts for sorts in other.takes.values())]
        raise InputError("defaults.kind", expected=f"one that takes a picture: {', '.join(able)}", got=step.name)
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if _is_picture(entry, PICTURE_SUFFIXES))
    except OSError as error:
        raise InputError(f"{folder}", expected="a folder that can be read", got=error.strerror) from error
    if not names:
        raise InputError(f"{folder}", expected=f"pictures: {', '.join(PICTURE_SUFFIXES)}", got="none")
    captions = _captions(folder, names) if "prompt" in recipe_keys(step) else None
    jobs: list[Said] = []
    for name in names:
        keys = {key: os.path.abspath(folder / name)}
        if captions is not None:
            keys["prompt"] = captions.get(name) or caption_from_name(name)
        jobs.append(_one_more(jobs, f"picture {name}", keys))
    return jobs


def _is_picture(entry: os.DirEntry[str], suffixes: tuple[str, ...]) -> bool:
    return entry.name.lower().endswith(suffixes) and not entry.name.startswith(".") and entry.is_file()


def _captions(folder: Path, names: list[str]) -> dict[str, str]:
    """The captions of pictures that have one: in the folder's index, or in a text beside each."""
    from shared.training.data.captions import INDEXES, read_captions, read_text

    if any((folder / index).is_file() for index in INDEXES):
        return {entry["file"]: entry["caption"] for entry in read_captions(folder)}
    texts = {name: (folder / name).with_suffix(".txt") for name in names}
    return {name: " ".join(read_text(text).split()) for name, text in texts.items() if text.is_file()}


def _one_more(jobs: list[Said], place: str, keys: Mapping[str, Any]) -> Said:
    if len(jobs) >= MOST_TASKS:
        raise InputError(place, expected=f"at most {MOST_TASKS} jobs", got="more")
    return Said(place, keys)

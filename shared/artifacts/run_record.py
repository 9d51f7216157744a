"""The run record: everything that made an artifact, embedded in the artifact, enough to make it again.

It holds no time, no host and no path but those that were asked for, a model's or an input's, so that the same run gives
the same bytes. Where it lies:
MP4, WebM, MOV and GIF: the `comment`; PNG and APNG: the text `kinoform`; JPEG and WebP: the user comment of EXIF;
meshes: see `shared.artifacts.mesh_record`; a folder of PNGs: `clip.json`; latents (safetensors): the metadata
`kinoform`; any other file: `<file>.json` beside it, which names the sha256 of the file that it is about.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from shared.artifacts.files import sha256, write_bytes
from shared.artifacts.json_text import parse_object, read_json_file
from shared.artifacts.media import CLIP_SUFFIXES, IMAGE_SUFFIXES, TAG, is_clip, read_clip_tags, read_image_text, sidecar
from shared.artifacts.mesh_record import MESH_RECORD_READERS, mesh_record_text
from shared.errors import InputError
from shared.version import VERSION

RECORDED_VERSIONS = (  # of what is installed
    "torch", "diffusers", "transformers", "numpy", "av", "pillow", "trimesh", "torchao", "bitsandbytes",
)  # fmt: skip
LATENTS_SUFFIX = ".latents.safetensors"  # after the name of the output that they become
SHA256 = "file_sha256"  # in a record beside a file: of which file it is


class ModelRecord(BaseModel):
    """Which weights ran: the name that was asked for, and the sha256 of each file of its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    hashes: dict[str, str] = Field(default_factory=dict)


class RunRecord(BaseModel):
    """What made an artifact. `recipe` is complete: every field, defaults included, as JSON types. `inputs`: the sha256
    of each file that it names, by the key that names it. `unused`: keys of the recipe that the model does not take: its
    own ways held in their place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinoform_version: str
    command: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    recipe: dict[str, Any]
    seed: StrictInt
    model: ModelRecord
    versions: dict[str, str]
    platform: str
    inputs: dict[str, str] = Field(default_factory=dict, exclude_if=lambda inputs: not inputs)
    unused: list[str] = Field(default_factory=list, exclude_if=lambda unused: not unused)

    @model_validator(mode="after")
    def _is_of_one_run(self) -> RunRecord:
        """What makes the artifact again is there, and says one thing only."""
        if not isinstance(self.recipe.get("model"), str):
            raise ValueError("the recipe names no model")
        if self.recipe.get("seed") != self.seed or isinstance(self.recipe["seed"], bool):
            raise ValueError(f"the recipe's seed is {self.recipe.get('seed')!r}, the record's {self.seed}")
        return self

    @classmethod
    def of_run(
        cls,
        command: str,
        recipe: Mapping[str, Any],
        seed: int,
        model_name: str,
        hashes: Mapping[str, str],
        inputs: Mapping[str, str] | None = None,
        unused: Sequence[str] = (),
    ) -> RunRecord:
        """The record of a run in this process: its versions and platform are read here."""
        return cls(
            kinoform_version=VERSION,
            command=command,
            recipe=dict(recipe),
            seed=seed,
            model=ModelRecord(name=model_name, hashes=dict(hashes)),
            versions=installed_versions(),
            platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            inputs=dict(inputs or {}),
            unused=list(unused),
        )

    def to_json(self) -> str:
        """One line of ASCII JSON with sorted keys: every container can hold it, and equal records are equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, *, source: str = "run record") -> RunRecord:
        """Parse `to_json`'s text.

        InputError when it is no run record, one of another version's shape, or one that no run can have left: with NaN,
        no command, no model in its recipe, or two seeds.
        """
        return cls.from_values(parse_object(text, source, expected="a kinoform run record"), source=source)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], *, source: str = "run record") -> RunRecord:
        """The record of the values that JSON text held. Raises InputError as `from_json` does."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            reason = f"{first['msg']} {f'({where})' if where else ''}".strip().removeprefix("Value error, ")
            raise InputError(source, expected="a kinoform run record", got=reason) from error


def installed_versions() -> dict[str, str]:
    """Versions of the packages that shape results, read from their metadata without importing them."""
    found = {}
    for name in RECORDED_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # the package is optional to what ran
    return found


def read_record(path: str | os.PathLike[str]) -> RunRecord:
    """The run record of an artifact. InputError when the file is missing, unreadable, or carries none that is whole.

    A record beside a file must be of that file: InputError when it names another's sha256.
    """
    source = Path(path)
    name = f"file {path}"
    if not source.exists():
        raise InputError("file", expected="a file that exists", got=os.fspath(path))
    suffix = source.suffix.lower()
    text = None
    if source.is_dir() or (suffix in CLIP_SUFFIXES and suffix not in IMAGE_SUFFIXES):
        tags = read_clip_tags(source)
        text = tags.get(TAG) or tags.get("comment")
    elif suffix in IMAGE_SUFFIXES:
        text = (read_clip_tags(source) if is_clip(source) else read_image_text(source)).get(TAG)
    elif suffix in MESH_RECORD_READERS:
        text = mesh_record_text(source)
    elif suffix == ".safetensors":
        text = _safetensors_metadata(source).get(TAG)
    elif suffix == ".json":
        return _read_json(source)[0]
    if text:
        return RunRecord.from_json(text, source=name)
    if not sidecar(source).is_file():
        raise InputError(name, expected="a file made by kinoform, with its run record", got="none in it")
    record, about = _read_json(sidecar(source))
    if about is not None and about != _sha256(source):
        raise InputError(name, expected=f"the file that {sidecar(source).name} is about", got="another (its sha256)")
    return record


def write_sidecar(path: str | os.PathLike[str], record: RunRecord | None, file_sha256: str | None = None) -> None:
    """Write `<file>.json` beside a file whose format has no room for the record (STL), after the file itself.

    file_sha256: of the file's bytes, in hexadecimal; None reads it. Where a kill leaves a new file and an old record,
    readers notice. record: None takes away that of an earlier file of that name; any other JSON file stays.
    """
    place = sidecar(path)
    if record is not None:
        about = {**record.model_dump(mode="json"), SHA256: file_sha256 or _sha256(Path(path))}
        write_bytes(place, json.dumps(about, sort_keys=True, allow_nan=False).encode() + b"\n")
    elif place.is_file():
        with suppress(InputError):
            _read_json(place)
            place.unlink()


def _safetensors_metadata(source: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors."""
    try:
        with safe_open(source, framework="numpy") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"file {source}", expected="a whole safetensors file", got=str(error)) from error


def _read_json(file: Path) -> tuple[RunRecord, str | None]:
    """The record in a JSON file, all of it or under TAG, and the sha256 of the file that it says it is about."""
    values = read_json_file(file, expected="a kinoform run record")
    values = values[TAG] if isinstance(values.get(TAG), dict) else values
    about = values.pop(SHA256, None)
    return RunRecord.from_values(values, source=f"file {file}"), about


def _sha256(file: Path) -> str:
    try:
        return sha256(file)
    except OSError as error:
        raise InputError(f"file {file}", expected="a readable file", got=error.strerror) from error

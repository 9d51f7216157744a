"""The run record: everything that made an artifact, embedded in the artifact, enough to make it again.

It holds no time, no host and no path but a model's that was asked for by one, so that the same run gives the same
bytes. Where it lies:
MP4, WebM and GIF: the `comment`; PNG: the text `kinoform`; meshes: see `shared.mesh_record`; a folder of PNGs:
`clip.json`; latents (safetensors): the metadata `kinoform`; any other file: `<file>.json` beside it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import InputError
from shared.files import write_bytes
from shared.media import CLIP_SUFFIXES, TAG, read_clip_tags, read_image_text, sidecar
from shared.mesh_record import MAX_RECORD_BYTES, MESH_RECORD_READERS, mesh_record_text
from shared.version import VERSION

RECORDED_VERSIONS = ("torch", "diffusers", "transformers", "numpy", "av", "pillow", "trimesh")
LATENTS_SUFFIX = ".latents.safetensors"  # after the name of the output that they become


class ModelRecord(BaseModel):
    """Which weights ran: the name that was asked for, and the sha256 of each file of its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    hashes: dict[str, str] = Field(default_factory=dict)


class RunRecord(BaseModel):
    """What made an artifact. `recipe` is complete: every field, defaults included, as JSON types."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinoform_version: str
    command: str
    recipe: dict[str, Any]
    seed: int
    model: ModelRecord
    versions: dict[str, str]
    platform: str

    @classmethod
    def of_run(
        cls, command: str, recipe: Mapping[str, Any], seed: int, model_name: str, hashes: Mapping[str, str]
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
        )

    def to_json(self) -> str:
        """One line of ASCII JSON with sorted keys: every container can hold it, and equal records are equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, *, source: str = "run record") -> RunRecord:
        """Parse `to_json`'s text. InputError when it is not a run record, or one of another version's shape."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            reason = f"{first['msg']} {f'({where})' if where else ''}".strip()
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
    """The run record of an artifact. InputError when the file is missing, unreadable or carries none."""
    source = Path(path)
    if not source.exists():
        raise InputError("file", expected="a file that exists", got=os.fspath(path))
    suffix = source.suffix.lower()
    text = None
    if source.is_dir() or suffix in CLIP_SUFFIXES:
        tags = read_clip_tags(source)
        text = tags.get(TAG) or tags.get("comment")
    elif suffix == ".png":
        text = read_image_text(source).get(TAG)
    elif suffix in MESH_RECORD_READERS:
        text = mesh_record_text(source)
    elif suffix == ".safetensors":
        text = _safetensors_metadata(source).get(TAG)
    elif suffix == ".json":
        text = _read_text(source)
    if not text and sidecar(source).is_file():
        text = _read_text(sidecar(source))
    if not text:
        raise InputError(f"file {path}", expected="a file made by kinoform, with its run record", got="none in it")
    return RunRecord.from_json(text, source=f"file {path}")


def write_sidecar(path: str | os.PathLike[str], record: RunRecord | None) -> None:
    """Write `<file>.json` beside a file whose format has no room for the record (STL).

    None takes away the record of an earlier file of that name; any other JSON file stays.
    """
    place = sidecar(path)
    if record is not None:
        write_bytes(place, record.to_json().encode() + b"\n")
    elif place.is_file():
        with suppress(InputError, UnicodeDecodeError):
            RunRecord.from_json(place.read_text(encoding="utf-8"))
            place.unlink()


def _safetensors_metadata(source: Path) -> dict[str, Any]:
    """The header of a safetensors file: its length in 8 bytes, little-endian, then JSON."""
    try:
        with source.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, MAX_RECORD_BYTES)))
        return dict(header.get("__metadata__", {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"file {source}", expected="a whole safetensors file", got=str(error)) from error


def _read_text(source: Path) -> str:
    try:
        if source.stat().st_size > MAX_RECORD_BYTES:
            raise InputError(f"file {source}", expected="a run record", got=f"{source.stat().st_size} bytes")
        return source.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"file {source}", expected="a run record", got=str(error)) from error

"""The models that are here: the embedded one, those in folders, those in the hub's cache. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import InputError, ModelError
from shared.models.layouts.hub import cached_models
from shared.models.look.report import Look, look
from shared.models.source import INDEX, WORLD

DEPTH = 3  # of folders in a folder of models that are looked into


@dataclass(frozen=True)
class Listed:
    """name: what --model takes. look: None for a model that cannot be read, whose problem says why."""

    name: str
    path: Path
    look: Look | None
    problem: str = ""


def listed(folders: Iterable[Path], *, hub: bool = True) -> Iterator[Listed]:
    """The embedded model, then those in `folders` (each a model or a folder of models), then the hub's cache.

    Raises InputError for a folder that is none.
    """
    yield _listed("world", WORLD)
    for folder in folders:
        if not folder.exists():
            raise InputError("folder", expected="a folder of models", got=str(folder))
        for path in models_in(folder):
            yield _listed(str(path), path)
    if hub:
        for hub_id, snapshot in cached_models():
            if (snapshot / INDEX).is_file():  # tokenizers, language models and data have none
                yield _listed(hub_id, snapshot)


def models_in(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Diffusers folders and .safetensors files at `folder` or in it, by name; of a model's own parts none."""
    if folder.is_file():
        if folder.suffix == ".safetensors":
            yield folder
        return
    if (folder / INDEX).is_file():
        yield folder
        return
    if (folder / "config.json").is_file():  # a part of a model, or another library's
        return
    for entry in sorted(folder.iterdir()) if depth else ():
        if entry.name.startswith("."):
            continue
        if entry.is_dir() or entry.suffix == ".safetensors":
            yield from models_in(entry, depth - 1)


def _listed(name: str, path: Path) -> Listed:
    try:
        found = look(path)
    except (ModelError, OSError) as error:
        return Listed(name, path, None, str(error))
    return Listed(name, path, found, found.problem)

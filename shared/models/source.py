"""Where the files of a model are: the embedded one, a folder, a single file, or the hub. No torch here."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from shared.errors import ModelError, one_line
from shared.models.layouts.family import check_single_file
from shared.models.layouts.hub import INDEX, cached, not_found, offline, wanted
from shared.models.pipelines.classes import CLASS, SEES, check_components, pipeline_of, sees_more, unusable
from shared.models.weight_files import PICKLES, read_header, read_json, weight_files

WORLD = Path(__file__).resolve().parents[1] / "weights" / "world"
KINDS = "world, a diffusers folder, a .safetensors file, or a hub id"
# What every model folder must hold, and which of it has weights.
COMPONENTS, NETWORKS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler"), ("unet", "vae", "text_encoder")
HINTS = {
    "temporal": "It makes pictures, not clips. Train it on clips: kinoform train video --data DIR --out DIR",
    "image_encoder": "Name a CLIP of transformers or open_clip: --clip-model FOLDER",
}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{,95}/[\w.-]{1,96}")  # the hub takes no longer names


def check_model(
    source: str | Path,
    also: Sequence[str] = (),
    *,
    pipelines: Collection[str] | None = (),
    pipeline_class: str | None = None,
    replaced: Collection[str] = (),
) -> None:
    """Refuse what could not be loaded, before torch is imported for it: in some milliseconds, reading no tensor.

    also: components that are needed besides those of an image model ("temporal" for clips, "image_encoder" to score).
    pipelines: diffusers classes that will do in place of our core; None: any. pipeline_class: in place of its own.
    replaced: components whose weights are taken from elsewhere, and which need none in the folder.
    Raises ModelError as `resolve_model` does, and for a folder in which a component is missing, pickled, cut short or
    damaged, or a single file that is. What the hub has is not asked; offline, its cache is.
    """
    path = find_model(source)
    if path is None and offline():
        path = cached(str(source))
        if path is None:
            raise not_found(str(source), "none in the hub's cache, and HF_HUB_OFFLINE is set")
    if path is None:
        return
    if path.is_file():
        check_single_file(path, read_header(path))
        if pipeline_class is not None:
            raise ModelError(f"model {path}", expected="a folder, for a pipeline class", got="a single file")
        return
    index = read_index(path)
    runner = pipeline_of(index, pipeline_class)
    if runner is not None:
        if pipelines is not None and runner not in pipelines:
            raise unusable(path, runner, pipelines)
        check_components(path, index, replaced)
        return
    sees = SEES.get(str(index.get(CLASS)))
    if sees is not None and (pipelines is not None or "temporal" in also):
        raise sees_more(path, sees)
    for name in COMPONENTS:
        entry = index.get(name)
        if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(part, str) for part in entry):
            raise ModelError(f"{name} of model {path}", expected=f"its library and class in {INDEX}", got=entry)
    for name in (*COMPONENTS, *also):
        if not (path / name).is_dir():
            got = "none in it"
            raise ModelError(f"model {path}", expected=f"a subfolder {name}", got=got, hint=HINTS.get(name, ""))
    read_json(path / "scheduler" / "scheduler_config.json")
    for name in (*NETWORKS, *also):
        for file in () if name in replaced else weight_files(path / name):
            read_header(file)
        read_json(path / name / "config.json")


def resolve_model(source: str | Path) -> Path:
    """Where a model's files are: "world" (the embedded one), a folder, a .safetensors file, or a hub id "owner/name".

    A hub id is fetched, or found in the hub's cache; only safetensors, JSON and text files of it.
    Raises ModelError when there is no such thing, and for pickles.
    """
    return find_model(source) or _fetch(str(source))


def find_model(source: str | Path) -> Path | None:
    """The files of a model on this machine; None for the id of one on the hub. Raises ModelError for neither."""
    if str(source) == "world":
        if not (WORLD / INDEX).is_file():
            raise ModelError("the embedded model", expected=f"{INDEX} in {WORLD}", got="none")
        return WORLD
    if not str(source).strip():
        raise ModelError("model", expected=KINDS, got="no name")
    try:
        path = Path(source).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a user or character that is none
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(f"model {one_line(source)}", expected=KINDS, got=reason) from error
    if path.suffix in PICKLES and not path.is_dir():
        raise ModelError(
            f"model {source}",
            expected="a folder or a .safetensors file",
            got="a pickle, which can run code when opened",
        )
    if path.is_dir() or (path.is_file() and path.suffix == ".safetensors"):
        return path
    if path.exists() or not HUB_ID.fullmatch(str(source)):
        raise ModelError(
            f"model {source}",
            expected=KINDS,
            got="another kind of file" if path.exists() else "no such folder or file",
        )
    return None


def read_index(folder: Path) -> dict[str, Any]:
    """A folder's model_index.json. Raises ModelError when there is none."""
    if not (folder / INDEX).is_file():
        raise ModelError(f"model {folder}", expected=f"a diffusers folder with {INDEX}", got="none in it")
    return read_json(folder / INDEX)


def _fetch(hub_id: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    try:  # network, rights, cache and names all fail in their own ways
        there = HfApi().model_info(hub_id).siblings or ()
    except Exception as error:
        path = cached(hub_id)
        if path is None:
            raise not_found(hub_id, f"no such folder, and the hub says: {type(error).__name__}") from error
        return path
    try:  # what is broken off here leaves a part of a model in the cache, which is none
        return Path(snapshot_download(hub_id, allow_patterns=wanted(file.rfilename for file in there)))
    except Exception as error:
        raise not_found(hub_id, f"no such folder, and of the hub's files not all: {type(error).__name__}") from error

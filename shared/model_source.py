"""Where the files of a model are: the embedded one, a folder, a single file, or the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from shared.errors import ModelError
from shared.safe_weights import PICKLES, read_json

WORLD = Path(__file__).resolve().parent / "weights" / "world"
INDEX = "model_index.json"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
HUB_FILES = (INDEX, "*/*.json", "*/*.txt", "*/diffusion_pytorch_model*.safetensors", "*/model*.safetensors")


def resolve_model(source: str | Path) -> Path:
    """Where a model's files are: "world" (the embedded one), a folder, a .safetensors file, or a hub id "owner/name".

    A hub id is fetched, or found in the hub's cache; only safetensors, JSON and text files of it.
    Raises ModelError when there is no such thing, and for pickles.
    """
    if str(source) == "world":
        if not (WORLD / INDEX).is_file():
            raise ModelError("the embedded model", expected=f"{INDEX} in {WORLD}", got="none")
        return WORLD
    path = Path(source).expanduser()
    if not str(source).strip():
        raise ModelError("model", expected="world, a diffusers folder, a .safetensors file, or a hub id", got="no name")
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
            expected="world, a diffusers folder, a .safetensors file, or a hub id",
            got="another kind of file" if path.exists() else "no such folder or file",
        )
    return _fetch(str(source))


def read_index(folder: Path) -> dict[str, Any]:
    """A folder's model_index.json. Raises ModelError when there is none."""
    if not (folder / INDEX).is_file():
        raise ModelError(f"model {folder}", expected=f"a diffusers folder with {INDEX}", got="none in it")
    return read_json(folder / INDEX)


def _fetch(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(hub_id, allow_patterns=list(HUB_FILES), ignore_patterns=["*.fp16.*", "*.non_ema.*"])
        )
    except Exception as error:  # network, rights, cache and names all fail in their own ways
        raise ModelError(
            f"model {hub_id}",
            expected="a folder, or a model on the hub",
            got=f"no such folder, and the hub says: {type(error).__name__}",
            hint="Check the name and the network, or give a folder",
        ) from error

"""The hub's cache on this disk, and the names of models that have moved on the hub. Imports no hub client, no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from shared.errors import ModelError

SD2 = "sd2-community"
MOVED = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "runwayml/stable-diffusion-inpainting": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "stabilityai/stable-diffusion-2": f"{SD2}/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": f"{SD2}/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": f"{SD2}/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": f"{SD2}/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-2-inpainting": f"{SD2}/stable-diffusion-2-inpainting",
    "stabilityai/stable-diffusion-2-depth": f"{SD2}/stable-diffusion-2-depth",
}
YES = {"1", "on", "yes", "true"}  # as the hub's client reads its variables
PREFIX = "models--"


def cache_folder() -> Path:
    """Where the hub's client keeps what it fetched."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def cached(hub_id: str) -> Path | None:
    """The snapshot of a model in the cache: of its main branch, else the newest; None where there is none."""
    place = cache_folder() / (PREFIX + hub_id.replace("/", "--"))
    try:
        main = (place / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        main = ""
    snapshots = place / "snapshots"
    if re.fullmatch(r"\w+", main) and (snapshots / main).is_dir():
        return snapshots / main
    folders = [folder for folder in snapshots.iterdir() if folder.is_dir()] if snapshots.is_dir() else []
    return max(folders, key=lambda folder: folder.stat().st_mtime, default=None)


def cached_models() -> Iterator[tuple[str, Path]]:
    """Hub ids in the cache with their snapshots, by name."""
    folder = cache_folder()
    for place in sorted(folder.glob(f"{PREFIX}*")) if folder.is_dir() else ():
        hub_id = place.name.removeprefix(PREFIX).replace("--", "/", 1)
        if (snapshot := cached(hub_id)) is not None:
            yield hub_id, snapshot


def offline() -> bool:
    """Whether the hub's client has been told not to ask it."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").lower() in YES for name in names)


def not_found(hub_id: str, reason: str) -> ModelError:
    """What to say of a hub id that could not be had: where it is now, if it has moved."""
    hint = "Check the name and the network, or give a folder"
    if hub_id in MOVED:
        hint = f"This model has moved on the hub: --model {MOVED[hub_id]}"
    return ModelError(f"model {hub_id}", expected="a folder, or a model on the hub", got=reason, hint=hint)

"""What is fetched of a model on the hub, the hub's cache on this disk, and the names of models that have moved there.
Imports no hub client, no torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
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
INDEX = "model_index.json"
SMALL = re.compile(r"[^/]+/[^/]+\.(json|txt|model)")  # configurations and words of parts
SMALL_OF_ONE = re.compile(r"[^/]+\.(json|txt)")  # of a repository that is one network, such as a CLIP
# Files of weights, whole, sharded or an index of shards, with or without a variant in any of its places.
WEIGHTS = re.compile(
    r"(?P<folder>[^/]+/)?(diffusion_pytorch_|open_clip_|open_clip_pytorch_)?model(\.(?P<whole>[a-z]\w*))?(-\d+-of-\d+)?"
    r"(\.(?P<shard>[a-z]\w*))?\.safetensors(\.index(\.(?P<index>\w+))?\.json)?"
)
VARIANTS = ("", "fp16", "bf16")  # in the order in which they are preferred; then others by name


def wanted(names: Iterable[str]) -> list[str]:
    """Of the files in a repository those that are read: configurations, words, and of every part the weights without a
    variant, or where there are none those of one variant. Of one that is no diffusers folder what lies at its top.
    """
    names = list(names)
    small = SMALL if INDEX in names else SMALL_OF_ONE
    found = {INDEX} & {*names}
    parts: dict[str, dict[str, list[str]]] = {}
    for name in names:
        match = WEIGHTS.fullmatch(name)
        if match:
            variant = match["whole"] or match["shard"] or match["index"] or ""
            parts.setdefault(match["folder"] or "", {}).setdefault(variant, []).append(name)
        elif small.fullmatch(name):
            found.add(name)
    for part, variants in parts.items():
        if bool(part) == (INDEX in names):
            found.update(variants[min(variants, key=_preference)])
    return sorted(found)


def _preference(variant: str) -> tuple[int, str]:
    return VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS), variant


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

"""What the page shows: items, and how one is made of a finished file by the run record that it carries."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreamfusion.mesh.files.formats import ASSET_SUFFIXES
from shared.artifacts.run_record import read_record
from shared.errors import KinoformError

STATES = ("running", "done", "failed", "poisoned", "queued", "blocked", "cancelled")
NO_RESULTS = (".json", ".safetensors")  # hold records, and are not what was wanted: they lie beside results
FRAMES = "clip.json"  # the file by which a folder of PNGs is a clip


@dataclass(frozen=True)
class Item:
    """One thing that was made, is being made or is to be made.

    id: a name that no other item of a page has. state: one of STATES. step: what makes it, such as "image", "clip",
    "asset" or "turntable". template: the prompt before choices in it were drawn. output: path below the page's folder,
    with forward slashes, once there is a file. recipe: resolved. command: makes it again, in the page's folder.
    done_share: of one that is running, in [0, 1].
    """

    id: str
    state: str
    step: str
    prompt: str
    template: str | None = None
    model: str = ""
    seed: int | None = None
    tags: tuple[str, ...] = ()
    output: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    error: str | None = None
    seconds: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    done_share: float | None = None


def item_of_file(folder: Path, path: Path) -> Item | None:
    """The item of a finished file, or folder of PNGs, at or below `folder`. None for what is no result: without a run
    record, or nothing but one.
    """
    if path.suffix.lower() in NO_RESULTS:
        return None
    try:
        record = read_record(path)
    except (KinoformError, OSError):
        return None
    name = path.relative_to(folder).as_posix()
    turning = record.command == "asset" and path.suffix.lower() not in ASSET_SUFFIXES
    return Item(
        id=name,
        state="done",
        step="turntable" if turning else record.command,
        prompt=str(record.recipe.get("prompt") or ""),
        model=record.model.name,
        seed=record.seed,
        output=name,
        recipe=record.recipe,
        command=shlex.join(["kinoform", "rerun", f"./{name}" if name.startswith("-") else name]),
    )


def items_below(folder: Path) -> Iterator[Item]:
    """The items of all results in a folder and below, by name. Hidden folders are passed over."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        kept = [name for name in sorted(folders) if not name.startswith(".")]
        clips = [name for name in kept if (here / name / FRAMES).is_file()]
        folders[:] = [name for name in kept if name not in clips]
        for name in sorted([*files, *clips]):
            if not name.startswith(".") and (item := item_of_file(folder, here / name)):
                yield item

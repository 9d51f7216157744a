"""What a model is: its parts, their weights, what it was made for, what Kinoform can do with it. Imports no torch.

Only headers and configurations are read, unless hashes are asked for; code that lies in a folder is named, never run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.artifacts.files import sha256
from shared.errors import ModelError
from shared.models.layouts.family import SUPPORTED, UNKNOWN, family_of
from shared.models.layouts.prediction import said
from shared.models.look.licence import licence_of
from shared.models.look.lora import Lora, lora_of
from shared.models.made_for import made_for
from shared.models.pipelines.classes import CLASS, DISTILLED, SEES, makes, pipeline_of
from shared.models.source import check_model, read_index
from shared.models.weight_files import PICKLES, Entry, read_entries, read_json, weight_files

FOLDER, SINGLE, LORA, TENSORS = "diffusers folder", "single file", "LoRA file", "tensors"
PREFIXES = {  # of the parts of single files
    "unet or transformer": ("model.diffusion_model.",),
    "vae": ("first_stage_model.", "vae."),
    "text encoders": ("cond_stage_model.", "conditioner.", "text_encoders."),
}
REST = "other tensors"
BESIDE = {"temporal": "clip", "image_encoder": "score"}  # parts, and what they add to pictures


@dataclass(frozen=True)
class Part:
    """A part of a model. kind: its class. dtypes: numbers of each. problem: why its weights cannot be had."""

    name: str
    kind: str = ""
    dtypes: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    files: tuple[str, ...] = ()
    problem: str = ""

    @property
    def parameters(self) -> int:
        return sum(self.dtypes.values())


@dataclass(frozen=True)
class Look:
    """layout: one of FOLDER, SINGLE, LORA, TENSORS. kind: its pipeline, or what its tensors are of.

    size: width and height in pixels that it was made for, frames likewise. can: what Kinoform makes with it; problem:
    why nothing. licence: name and text. code: Python files, which are never run.
    """

    path: Path
    layout: str
    kind: str
    parts: tuple[Part, ...]
    prediction_type: str | None = None
    size: tuple[int, int] | None = None
    frames: int | None = None
    can: tuple[str, ...] = ()
    problem: str = ""
    licence: tuple[str | None, str | None] = (None, None)
    lora: Lora | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    code: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Of all weights."""
        return sum(part.bytes for part in self.parts)

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file of weights, by its path in the folder. Reads all of them."""
        base = self.path if self.path.is_dir() else self.path.parent
        return {name: sha256(base / name) for part in self.parts for name in part.files}


def look(path: Path) -> Look:
    """At a diffusers folder or a .safetensors file. Raises ModelError for what is neither, and for a broken file.

    A broken part of a folder is no error: the part says what is wrong with it.
    """
    return _folder(path) if path.is_dir() else _file(path)


def abilities(path: Path) -> tuple[tuple[str, ...], str]:
    """What Kinoform makes with a model: "image", "clip", "asset", "score"; or, where nothing, why."""
    try:
        check_model(path, pipelines=None)
        index = read_index(path) if path.is_dir() else {}
        runner = pipeline_of(index)
    except ModelError as error:
        return (), str(error)
    if runner is not None:
        kind = makes(runner)
        if kind is None:
            return (), f"as the installed diffusers has no {runner} that makes pictures or clips"
        return (kind, *(("asset",) if runner in DISTILLED else ())), ""
    if index.get(CLASS) in SEES:
        return ("image",), ""
    can = {"image", "asset"}
    for part, more in BESIDE.items():
        if path.is_dir() and (path / part).is_dir():
            try:
                check_model(path, [part])
            except ModelError:
                continue
            can.add(more)
    return tuple(name for name in ("image", "clip", "asset", "score") if name in can), ""


def _folder(path: Path) -> Look:
    index = read_index(path)
    known = made_for(path)
    can, problem = abilities(path)
    parts = [
        _component(path, name, entry)
        for name, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and entry[1] is not None
    ]
    named = {part.name for part in parts}
    parts += [
        _component(path, config.parent.name, ["", _class_beside(config)])
        for config in sorted(path.glob("*/config.json"))
        if config.parent.name not in named
    ]
    try:
        scheduler = read_json(path / "scheduler" / "scheduler_config.json")
    except ModelError:
        scheduler = {}
    predicts = scheduler.get("prediction_type", "epsilon") if scheduler else None
    return Look(
        path,
        FOLDER,
        str(index.get("_class_name", "an unnamed pipeline")),
        tuple(parts),
        prediction_type=predicts if isinstance(predicts, str) else None,
        size=(known.width, known.height) if known else None,
        frames=known.frames if known else None,
        can=can,
        problem=problem,
        licence=licence_of(path),
        code=tuple(sorted(file.relative_to(path).as_posix() for file in path.rglob("*.py"))),
    )


def _component(path: Path, name: str, entry: list[Any]) -> Part:
    """A part that the index names; one without weights (a tokenizer, a scheduler) has none."""
    kind, folder = str(entry[1]), path / name
    if not folder.is_dir():
        return Part(name, kind, problem="missing")
    if not any(file.suffix in (*PICKLES, ".safetensors") for file in folder.iterdir()):
        needs_weights = (folder / "config.json").is_file()
        return Part(name, kind, problem="no weights" if needs_weights else "")
    try:
        files = weight_files(folder)
        entries = [entry for file in files for entry in read_entries(file)[0].values()]
    except ModelError as error:
        return Part(name, kind, problem=str(error))
    return _part(name, kind, entries, [file.relative_to(path).as_posix() for file in files])


def _file(path: Path) -> Look:
    entries, metadata = read_entries(path)
    header = {name: entry.shape for name, entry in entries.items()}
    licence = metadata.get("modelspec.license"), None
    if (lora := lora_of(header, metadata)) is not None:
        part = _part(lora.kind, "", entries.values(), [path.name])
        problem = "as it is no model, but a change to one"
        return Look(path, LORA, lora.kind, (part,), lora=lora, metadata=metadata, licence=licence, problem=problem)
    family = family_of(header)
    if family == UNKNOWN:
        kind = _class_beside(path)
        problem = "as it is a part of a model, which is loaded by its folder" if kind else "as it is no model's layout"
        parts: tuple[Part, ...] = (_part("weights", kind, entries.values(), [path.name]),)
        return Look(path, TENSORS, kind or family, parts, metadata=metadata, problem=problem, licence=licence)
    can, problem = abilities(path)
    predicts = said(path, header, metadata) if family in SUPPORTED else None
    parts = tuple(_groups(entries, path.name))
    known = made_for(path)
    size = (known.width, known.height) if known else None
    return Look(path, SINGLE, family, parts, predicts, size, None, can, problem, licence, metadata=metadata)


def _groups(entries: Mapping[str, Entry], file: str) -> Iterable[Part]:
    left = dict(entries)
    for name, prefixes in PREFIXES.items():
        own = [left.pop(key) for key in list(left) if key.startswith(prefixes)]
        if own:
            yield _part(name, "", own, [] if name != next(iter(PREFIXES)) else [file])
    if left:
        yield _part(REST, "", left.values(), [] if len(left) < len(entries) else [file])


def _part(name: str, kind: str, entries: Iterable[Entry], files: Iterable[str]) -> Part:
    entries = list(entries)
    dtypes: Counter[str] = Counter()
    for entry in entries:
        dtypes[entry.dtype] += math.prod(entry.shape)
    return Part(name, kind, dict(dtypes.most_common()), sum(e.stop - e.start for e in entries), tuple(files))


def _class_beside(file: Path) -> str:
    """The class that the configuration of a component names, for a file in its folder; "" where there is none."""
    try:
        config = read_json(file.parent / "config.json")
    except ModelError:
        return ""
    names = config.get("architectures") or [config.get("_class_name", "")]
    return str(names[0]) if isinstance(names, list) and names else ""

"""`kinoform inspect`: what a model or a file of weights holds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lab.flags import add_command
from lab.show.amounts import as_count, as_size
from lab.show.console import Console
from shared.models.layouts.hub import cached, not_found
from shared.models.look.licence import first_line
from shared.models.look.report import FOLDER, SINGLE, Look, Part, look
from shared.models.source import find_model

EXAMPLES = ("kinoform inspect world", "kinoform inspect models/mine --hashes", "kinoform inspect style.safetensors")


def add_parser(commands: Any, name: str, help: str) -> None:
    parser = add_command(commands, name, run, help, EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="world, a folder, a .safetensors file, or a hub id in the cache")
    parser.add_argument("--hashes", action="store_true", help="SHA-256 of every file of weights, which reads them all")


def run(args: argparse.Namespace) -> None:
    found = look(_path(args.model))
    hashes = found.hashes() if hasattr(args, "hashes") else None
    lines = [*_lines(found), *(f"sha256 {digest}  {name}" for name, digest in (hashes or {}).items())]
    Console(as_json=args.json).result(lines, **_fields(found), hashes=hashes)


def _path(model: str) -> Path:
    path = find_model(model) or cached(model)
    if path is None:
        raise not_found(model, "no such folder, and none in the hub's cache")
    return path


def _lines(found: Look) -> Iterator[str]:
    yield f"{found.path}: {found.layout}, {found.kind}"
    if found.lora is not None:
        ranks = ", ".join(map(str, found.lora.ranks)) or "unknown"
        layers = ", ".join(f"{count} layers of the {part}" for part, count in found.lora.changes.items())
        yield f"  rank {ranks}; for {found.lora.target or 'an unknown architecture'}; changes {layers}"
    width = max(len(part.name) for part in found.parts) if found.parts else 0
    kinds = max((len(part.kind) for part in found.parts), default=0)
    for part in found.parts:
        yield f"  {part.name:<{width}}  {part.kind:<{kinds}}  {_weights(part)}".rstrip()
    yield f"  total: {as_count(found.parameters)} parameters, {as_size(found.bytes)}"
    if found.prediction_type is not None:
        yield f"  predicts: {found.prediction_type}"
    elif found.layout == SINGLE:
        yield "  predicts: not said in the file; found when it is loaded"
    if found.size is not None:
        frames = f", {found.frames} frames" if found.frames else ""
        yield f"  made for: {found.size[0]}x{found.size[1]}{frames}"
    name, text = found.licence
    if name or text:
        yield f"  licence: {', '.join(filter(None, (name, first_line(text or ''))))}"
    if found.code:
        yield f"  code: {', '.join(found.code[:3])}{' and more' if len(found.code) > 3 else ''}; never run"
    if found.can:
        yield f"  can: {', '.join(found.can)}"
    else:
        yield f"  can: nothing, {found.problem}"


def _weights(part: Part) -> str:
    if part.problem:
        return part.problem
    if not part.dtypes:
        return ""
    return f"{as_count(part.parameters)} parameters, {', '.join(part.dtypes)}, {as_size(part.bytes)}"


def _fields(found: Look) -> dict[str, Any]:
    name, text = found.licence
    parts = {
        part.name: {
            "class": part.kind or None,
            "parameters": part.parameters,
            "dtypes": part.dtypes,
            "bytes": part.bytes,
            "files": part.files,
            "problem": part.problem or None,
        }
        for part in found.parts
    }
    return {
        "model": found.path,
        "layout": found.layout,
        "class": found.kind,
        "parts": parts,
        "parameters": found.parameters,
        "bytes": found.bytes,
        "prediction_type": found.prediction_type,
        "size": found.size,
        "frames": found.frames,
        "can": found.can,
        "problem": found.problem or None,
        "licence": name,
        "licence_text": text,
        "lora": None if found.lora is None else asdict(found.lora),
        "metadata": found.metadata if found.layout != FOLDER else {},
        "code": found.code,
    }

"""The component `temporal` of a model folder: written, read and checked here.

A video model is an image model's diffusers folder with one more subfolder and one more line in `model_index.json`,

    "temporal": ["video.network", "TemporalLayers"]

which is what diffusers itself writes for a component of ours. Stock `StableDiffusionPipeline.from_pretrained` ignores
that line, with a warning, and loads the image part; `VideoLDMPipeline.from_pretrained` loads all of it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from shared.artifacts.files import atomic_path
from shared.errors import ModelError
from shared.models.save import save_network
from shared.models.source import INDEX, read_index, resolve_model
from shared.models.weight_files import read_json
from shared.models.weights import load_network
from video.network import TemporalLayers

COMPONENT = "temporal"


def load_temporal(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> TemporalLayers:
    """The temporal layers of a model folder, frozen.

    Raises ModelError when there are none, or when their weights are cut short, missing, misshapen or not finite.
    """
    place = Path(folder) / COMPONENT
    if not (place / "config.json").is_file():
        raise ModelError(
            f"model {folder}",
            expected="a video model, with a folder `temporal`",
            got="an image model",
            hint="Train one on clips: kinoform train video --data DIR --out DIR",
        )
    config = read_json(place / "config.json")
    try:
        return load_network(lambda: TemporalLayers.from_config(config), place, device=device, dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{place / 'config.json'}", expected="that of TemporalLayers", got=str(error)) from error


def add_temporal(folder: str | Path, layers: TemporalLayers, dtype: torch.dtype | None = None) -> None:
    """Writes `layers` into a model folder, as they are or in `dtype`; old ones stay whole until the new ones are."""
    folder = Path(folder)
    save_network(folder / COMPONENT, layers, dtype or layers.dtype)
    index = read_index(folder)
    index[COMPONENT] = [TemporalLayers.__module__, TemporalLayers.__name__]
    _write_index(folder, index)


def copy_model(source: str, out: Path, *, temporal: bool) -> None:
    """Copies a model folder to `out` unless `out` holds a model already; `temporal`: its temporal layers too.

    The index is written last, so that a copy that was cut short is not taken for a model. Raises ModelError where `out`
    holds parts of a model, which a copy would overwrite.
    """
    if (out / INDEX).is_file():
        return
    folder = resolve_model(source)
    index = read_index(folder)
    if not temporal:
        index.pop(COMPONENT, None)
    parts = [n for n, value in index.items() if isinstance(value, list) and value[0] and (folder / n).is_dir()]
    present = [name for name in parts if (out / name).exists()]
    if present:
        raise ModelError(
            f"model {out}",
            expected="a whole image model, or none",
            got=f"{', '.join(present)} without {INDEX}",
            hint="Train the image stage there first, or give another folder",
        )
    staged = out / ".model-new"
    shutil.rmtree(staged, ignore_errors=True)
    for name in parts:
        shutil.copytree(folder / name, staged / name)
    for name in parts:
        (staged / name).rename(out / name)
    staged.rmdir()
    _write_index(out, index)


def _write_index(folder: Path, index: dict[str, object]) -> None:
    with atomic_path(folder / INDEX) as temporary:
        temporary.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

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
from safetensors import SafetensorError
from safetensors.torch import load_file

from shared.errors import ModelError
from shared.files import atomic_path
from shared.model import resolve_model
from video.network import TemporalLayers

COMPONENT = "temporal"
INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def load_temporal(folder: str | Path, *, dtype: torch.dtype = torch.float32) -> TemporalLayers:
    """The temporal layers of a model folder, on the CPU.

    Raises ModelError when there are none, or when their weights are truncated, not finite, or of another shape.
    """
    place = Path(folder) / COMPONENT
    if not (place / "config.json").is_file():
        raise ModelError(
            f"model {folder}",
            expected="a video model, with a folder `temporal`",
            got="an image model",
            hint="Train one on clips: kinoform train video --data DIR --out DIR",
        )
    try:
        layers = TemporalLayers.from_config(TemporalLayers.load_config(place))
        weights = load_file(place / WEIGHTS)
        layers.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"weights in {place}", expected="those of its config.json", got=str(error)) from error
    broken = [name for name, tensor in weights.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise ModelError(f"weights in {place}", expected="finite numbers", got=f"NaN or infinity in {broken[0]}")
    return layers.to(dtype).eval()


def add_temporal(folder: str | Path, layers: TemporalLayers) -> None:
    """Writes `layers`, as they are, into a model folder; the old ones stay whole until the new ones are."""
    folder = Path(folder)
    new = folder / f".{COMPONENT}-new"
    shutil.rmtree(new, ignore_errors=True)
    layers.save_pretrained(new)
    shutil.rmtree(folder / COMPONENT, ignore_errors=True)
    new.rename(folder / COMPONENT)
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    index[COMPONENT] = [TemporalLayers.__module__, TemporalLayers.__name__]
    _write_index(folder, index)


def copy_model(source: str, out: Path, *, temporal: bool) -> None:
    """Copies a model folder to `out` unless `out` holds a model already; `temporal`: its temporal layers too.

    The index is written last, so that a copy that was cut short is not taken for a model.
    """
    if (out / INDEX).is_file():
        return
    folder = resolve_model(source)
    if not (folder / INDEX).is_file():
        raise ModelError("model to train on", expected=f"a diffusers folder with {INDEX}", got=str(folder))
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    if not temporal:
        index.pop(COMPONENT, None)
    for name, value in index.items():
        if isinstance(value, list) and value[0] is not None and (folder / name).is_dir():
            shutil.copytree(folder / name, out / name, dirs_exist_ok=True)
    _write_index(out, index)


def _write_index(folder: Path, index: dict[str, object]) -> None:
    with atomic_path(folder / INDEX) as temporary:
        temporary.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

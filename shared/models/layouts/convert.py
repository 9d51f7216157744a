"""Models of other layouts to safetensors in diffusers' folders, or to one safetensors file.

    a pickle (.ckpt, .pt, .bin)           -> a .safetensors file of the same tensors, or on to a folder
    a Stable Diffusion 1, 2 or XL in one file -> a diffusers folder
    a diffusers folder with pickles       -> the same folder with safetensors

Tensors are copied one at a time as they are stored: nothing is computed, and no dtype changes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import torch

from shared.artifacts.files import atomic_folder, check_writable
from shared.errors import InputError, ModelError
from shared.models.layouts.clip_vocabulary import clip_tokenizer
from shared.models.layouts.family import XL
from shared.models.layouts.pickles import unpickled
from shared.models.layouts.prediction import V
from shared.models.layouts.single_file import SingleFile, prediction_of
from shared.models.save import pipeline_index
from shared.models.source import INDEX, read_index
from shared.models.weight_files import PICKLES, read_json
from shared.models.weights import write_tensors

SUFFIX = ".safetensors"
NAMES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model",
         "text_encoder_2": "model"}  # fmt: skip
CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel",
           "tokenizer": "CLIPTokenizer"}  # fmt: skip
SECOND = {"text_encoder_2": "CLIPTextModelWithProjection", "tokenizer_2": "CLIPTokenizer"}  # of Stable Diffusion XL
COPIED = (".json", ".txt", ".md", ".model", SUFFIX)  # of a folder; code and pictures are not
OWNED = (INDEX, INDEX)  # a folder is replaced where it is empty: others may hold what nobody wants to lose
PredictionType = Literal["epsilon", "v_prediction"]


def convert(source: Path, out: Path, prediction_type: PredictionType | None = None) -> list[str]:
    """Write `source` in the new layout to `out`, whole or not at all: a file where it ends in .safetensors, else a
    folder, new or empty. Returns what is worth saying of it.

    prediction_type: what the UNet of a single file predicts, where one knows better than the file (`prediction`).
    Raises InputError for what there is nothing to convert of, and for `out`; ModelError for what is wrong with a file.
    """
    to_file = out.suffix == SUFFIX
    check_writable(out if to_file else f"{out}/", (SUFFIX, ""))
    if not source.exists():
        raise InputError("file", expected="a file or folder that exists", got=str(source))
    if source.is_dir():
        if to_file:
            raise InputError("output", expected="a folder, as the model is one", got=str(out))
        return convert_folder(source, out)
    if source.suffix in PICKLES and to_file:
        left_out = unpickled(source, out)
        return [f"{left_out} entries that are no tensors are left out"] if left_out else []
    if source.suffix not in (*PICKLES, SUFFIX):
        raise InputError("file", expected=f"one ending in {', '.join((*PICKLES, SUFFIX))}", got=str(source))
    if to_file:
        raise InputError("output", expected="a folder, as the file is safetensors already", got=str(out))
    with atomic_folder(out, owned=OWNED) as new:
        file = source
        if source.suffix in PICKLES:
            file = new / f"unpickled{SUFFIX}"
            unpickled(source, file)
        notes = write_folder(file, new, source, prediction_type)
        if file is not source:
            file.unlink()
    return notes


def write_folder(file: Path, folder: Path, asked: Path, prediction_type: str | None) -> list[str]:
    """The components of a single file in `folder`. asked: where its tokenizer and configuration lie beside."""
    single = SingleFile.read(file, beside=asked)
    tokenizers = {"tokenizer": clip_tokenizer(asked, single.family)}
    if single.family == XL:
        tokenizers["tokenizer_2"] = clip_tokenizer(asked, single.family, second=True)
    notes = []
    predicts = prediction_type or single.prediction_type
    if predicts is None:
        config = single.configs(V)["unet"]
        predicts = prediction_of(single.load("unet", config, "cpu", torch.float32), single.family)
        notes.append(f"the file does not say what it predicts: {predicts}, by what it makes of noise")
    configs = single.configs(predicts)
    for component, name in ((component, name) for component, name in NAMES.items() if component in configs):
        places = single.matched(component, configs[component])
        if component.startswith("text_encoder"):  # as every release of transformers reads them
            places = {_in_text_model(key): place for key, place in places.items()}
        (folder / component).mkdir()
        _write_json(folder / component / "config.json", configs[component])
        write_tensors(folder / component / f"{name}{SUFFIX}", places)
    for name, tokenizer in tokenizers.items():
        tokenizer.save_pretrained(folder / name)
        tokenizer.backend_tokenizer.model.save(str(folder / name))
    classes = {**CLASSES, **(SECOND if single.family == XL else {})}
    scheduler = configs["scheduler"]
    (folder / "scheduler").mkdir()
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    _write_json(folder / INDEX, pipeline_index({**classes, "scheduler": scheduler["_class_name"]}))
    return notes


def _in_text_model(name: str) -> str:
    return name if name.startswith("text_projection") else f"text_model.{name.removeprefix('text_model.')}"


def convert_folder(source: Path, out: Path) -> list[str]:
    """A diffusers folder once more, its pickles as safetensors. Its code, should it bring any, stays behind."""
    read_index(source)
    if out.resolve().is_relative_to(source.resolve()):
        raise InputError("output", expected=f"a folder outside {source}", got=str(out))
    files = sorted(file for file in source.rglob("*") if file.is_file() and ".git" not in file.parts)
    pickles = [file for file in files if file.suffix in PICKLES and not file.with_name(_renamed(file.name)).is_file()]
    if not pickles:
        raise InputError(f"model {source}", expected="pickles (.bin, .ckpt, .pt) to convert", got="none")
    left = [file for file in files if file.suffix not in (*COPIED, *PICKLES) and file.name not in (".gitattributes",)]
    with atomic_folder(out, owned=OWNED) as new:
        for file in files:
            target = new / file.relative_to(source).parent / _renamed(file.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file in pickles:
                unpickled(file, target)
            elif file.name.endswith(".bin.index.json"):
                _write_index(file, target)
            elif file.suffix in COPIED:
                shutil.copyfile(file, target)
    names = ", ".join(file.relative_to(source).as_posix() for file in left[:3])
    return [f"left behind: {names}{' and more' if len(left) > 3 else ''}"] if left else []


def _renamed(name: str) -> str:
    """Of a pickle, what its safetensors are called, so that diffusers and transformers find them."""
    stem, dot, ending = name.partition(".")
    stem = "model" + stem.removeprefix("pytorch_model") if stem.startswith("pytorch_model") else stem
    if Path(name).suffix in PICKLES:
        return f"{stem}{dot}{ending.rpartition('.')[0]}".rstrip(".") + SUFFIX
    if name.endswith(".bin.index.json"):
        return f"{stem}{dot}{ending}".replace(".bin.index.json", f"{SUFFIX}.index.json")
    return name


def _write_index(file: Path, target: Path) -> None:
    """The index of shards, which are called otherwise now."""
    index = read_json(file)
    names = index.get("weight_map")
    if not isinstance(names, dict):
        raise ModelError(f"file {file}", expected="an index of shards with weight_map", got="none")
    _write_json(target, {**index, "weight_map": {key: _renamed(str(name)) for key, name in names.items()}})


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

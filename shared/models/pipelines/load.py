"""A diffusers pipeline as a model of ours: its parts loaded strictly, nothing of the folder's run as code."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from packaging.version import Version
from torch import nn
from transformers.utils import logging as transformers_logging

from shared.compute.quantised import QUANTISED, is_quantised, quantise
from shared.errors import ModelError
from shared.models.pipelines.classes import check_components, components, has_weights, pipeline_of
from shared.models.pipelines.keys import FRAMES, R, completed, unused_keys
from shared.models.source import read_index, resolve_model
from shared.models.weight_files import weight_hashes
from shared.models.weights import check_finite
from shared.recipe import Recipe

# What diffusers calls the precision to load in: before 0.42 it knew but the longer name, now it warns of that.
DTYPE = "dtype" if Version(diffusers.__version__) >= Version("0.42") else "torch_dtype"
NO_PARTS: Mapping[str, Any] = {}
REPORTS = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")


@dataclass
class PipelineModel:
    """A model that its own diffusers pipeline runs. name: what it was asked for by. path: where its files are.

    It has no codec and no text encoder of ours, and makes one thing at a time.
    """

    name: str
    path: Path
    pipeline: DiffusionPipeline
    codec: ClassVar[None] = None
    text: ClassVar[None] = None
    one_by_one: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = ()
    _hashes: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def class_name(self) -> str:
        return type(self.pipeline).__name__

    @property
    def image(self) -> PipelineModel:
        """What is asked of the image model inside a video model, this answers itself."""
        return self

    @cached_property
    def takes(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of its call."""
        signature = inspect.signature(type(self.pipeline).__call__)
        return {name: parameter for name, parameter in signature.parameters.items() if name != "self"}

    @property
    def makes(self) -> str:
        """The kind of what comes out: "image" or "clip"."""
        return "clip" if any(name in self.takes for name in FRAMES) else "image"

    @property
    def parts(self) -> dict[str, Any]:
        """Its parts that are there, by their names in the folder, for another class to take over."""
        return {name: part for name, part in self.pipeline.components.items() if part is not None}

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Its parts that have weights."""
        return {name: part for name, part in self.pipeline.components.items() if isinstance(part, nn.Module)}

    def unused(self, recipe: Recipe) -> list[str]:
        """Keys of a recipe that have no part in what comes out."""
        return unused_keys(self.takes, recipe)

    def completed(self, recipe: R) -> R:
        """The recipe with the class's own defaults for what it does not set."""
        return completed(self.takes, recipe)

    def distilled(self) -> DistilledPipeline:
        """The same one, for score distillation."""
        return DistilledPipeline(self.name, self.path, self.pipeline, self._hashes)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every weights file, by its path in the model folder. Computed once."""
        if not self._hashes:
            self._hashes.update(weight_hashes(self.path))
        return dict(self._hashes)


class DistilledPipeline(PipelineModel):
    """One that is asked about renders, and makes nothing itself: keys of its call have no part in that."""

    def unused(self, recipe: Recipe) -> list[str]:
        return []

    def completed(self, recipe: R) -> R:
        return recipe


def load_pipeline(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    pipeline_class: str | None = None,
    quantization: str = "none",
    weights: bool = True,
    parts: Mapping[str, Any] = NO_PARTS,
) -> PipelineModel:
    """The model at `source` (see `resolve_model`) in the diffusers class that it names, or in `pipeline_class`.

    quantization: of its denoising networks and text encoders (`shared.compute.quantised`).
    parts: by their names, those that are loaded already, and stay as they are.
    weights: without them its networks have shapes alone, on the device "meta": enough to ask what it can make.
    Raises ModelError: nothing there; no class of the installed diffusers; a part that is missing, pickled, cut short,
    of a class that is not there, or whose weights do not fit or are not finite.
    """
    path = resolve_model(source)
    index = read_index(path) if path.is_dir() else {}
    name = pipeline_of(index, pipeline_class)
    found = _pipeline_class(name, path)
    check_components(path, index, parts if weights else index)
    wanted = inspect.signature(found.__init__).parameters
    with _quiet():
        found_parts = {
            part: parts[part]
            if part in parts
            else _part(path / part, library, part_class, device, dtype, weights, quantization)
            for part, library, part_class in components(index)
            if part in wanted
        }
        settings = {key: None if value == [None, None] else value for key, value in index.items() if key in wanted}
        settings |= found_parts
        try:  # what `from_pretrained` comes to, with no way to code
            pipeline = found(**settings)
        except Exception as error:  # a part that is missing, or of another kind than the class wants
            raise ModelError(f"model {path}", expected=f"the parts of a {name}", got=first_line(error)) from error
    pipeline.set_progress_bar_config(disable=True)
    return PipelineModel(str(source), path, pipeline)


def _pipeline_class(name: str | None, path: Path) -> type[DiffusionPipeline]:
    try:
        found = getattr(diffusers, name, None) if name else None
    except (ImportError, RuntimeError) as error:
        raise ModelError(f"pipeline class {name}", expected="its packages", got=first_line(error)) from error
    if not (inspect.isclass(found) and issubclass(found, DiffusionPipeline)) or found is DiffusionPipeline:
        raise ModelError(
            f"model {path}",
            expected=f"a pipeline class of the installed diffusers {diffusers.__version__}",
            got=name or "none in its index",
            hint="Code that comes with a model never runs; a newer diffusers may have the class",
        )
    return found


def _part(
    folder: Path,
    library: str,
    class_name: str,
    device: str | torch.device,
    dtype: torch.dtype,
    weights: bool,
    quantization: str,
) -> Any:
    """A part of a pipeline: a network in its place and precision, or a tokenizer, processor or scheduler."""
    module = module_of(library)
    renamed = class_name.replace("FeatureExtractor", "ImageProcessor")  # as transformers calls them since 5
    found = getattr(module, class_name, None) or getattr(module, renamed, None)
    if not (inspect.isclass(found) and hasattr(found, "from_pretrained")):
        raise ModelError(f"{folder.name} of model {folder.parent}", expected=f"a class of {library}", got=class_name)
    if has_weights(folder, class_name):
        network = (None if weights else _shape_of(folder, found)) or _network(folder, found, dtype)
        if folder.name in QUANTISED and weights:
            quantise(network, quantization, device)
        return network.to(device) if weights else network
    try:
        return found.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the libraries below raise whatever a broken file makes them stumble over
        raise ModelError(f"{folder}", expected=f"that of a {class_name}", got=first_line(error)) from error


def _shape_of(folder: Path, found: Any) -> nn.Module | None:
    """A part without its weights; None where its class cannot be built so, of which loading tells more."""
    try:
        with torch.device("meta"):
            if issubclass(found, transformers.PreTrainedModel):
                return found(found.config_class.from_pretrained(folder, local_files_only=True))
            return found.from_config(found.load_config(folder, local_files_only=True))
    except Exception:  # code that wants values, or a configuration that it stumbles over
        return None


def _network(folder: Path, found: Any, dtype: torch.dtype) -> nn.Module:
    """A part with its weights in main memory, every tensor of the file in its place and every place filled."""
    what, fitting = f"weights in {folder}", f"those of a {found.__name__}"
    precision = {"dtype" if issubclass(found, transformers.PreTrainedModel) else DTYPE: dtype}
    try:
        network, report = found.from_pretrained(
            folder, **precision, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:
        raise ModelError(what, expected=fitting, got=first_line(error)) from error
    for fault in REPORTS:
        if names := sorted(map(str, report.get(fault) or ())):
            count = f"{len(names)} {fault.replace('_', ' ')}, first {names[0]}"
            raise ModelError(what, expected=fitting, got=count)
    for name, weight in network.named_parameters():  # of those that were saved quantised, the numbers they stand for
        check_finite({name: weight.dequantize() if is_quantised(weight) else weight}, folder)
    return network.requires_grad_(False).eval()


def module_of(library: str) -> Any:
    """The module that an index means by a library's name. Raises ModelError for one that is none of diffusers'."""
    if library in ("diffusers", "transformers"):
        return importlib.import_module(library)
    for place in ("diffusers.pipelines", "diffusers.pipelines.deprecated"):
        try:
            return importlib.import_module(f"{place}.{library}")
        except ModuleNotFoundError:
            continue
    raise ModelError(f"library {library}", expected="one of diffusers' pipelines", got="none of that name")


def first_line(error: Exception) -> str:
    """What an error says first, or else its kind."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the libraries below draw no bars of their own."""
    shown = [(library, library.is_progress_bar_enabled()) for library in (diffusers_logging, transformers_logging)]
    for library, _ in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, was in shown:
            if was:
                library.enable_progress_bar()

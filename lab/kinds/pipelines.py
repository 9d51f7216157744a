"""Our own core or a pipeline class of diffusers: the choice, where a kind loads its model and where it plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.flags import flag_of
from shared.errors import ModelError
from shared.models.adapters.recipe import PARTS
from shared.models.layouts.hub import cached
from shared.models.pipelines.classes import pipeline_of
from shared.models.pipelines.keys import OURS, Takes, check_keys
from shared.models.pipelines.source import call_of
from shared.models.source import find_model, read_index, resolve_model
from shared.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from lab.kinds.kind import Kind
    from shared.models.image_model import ImageModel
    from shared.models.pipelines.load import PipelineModel
    from shared.plan.estimate import Estimate
    from video.generate import VideoModel

NO_PARTS: Mapping[str, Any] = {}
COMMANDS = {"image": "pictures", "clip": "clips"}


def load_pictures(
    source: str,
    *,
    device: str | torch.device,
    dtype: torch.dtype,
    pipeline_class: str | None = None,
    quantization: str = "none",
    parts: Mapping[str, Any] = NO_PARTS,
    **adapters: Sequence[str],
) -> ImageModel | PipelineModel:
    """A model that makes pictures. quantization: of its weights (`shared.compute.quantised`). parts: of its folder,
    those that are loaded already.

    Raises ModelError for one that makes clips, and as the loaders do.
    """
    if _by_pipeline(source, pipeline_class):
        return _load("image", source, device, dtype, pipeline_class, quantization, parts, adapters)
    from shared.compute.quantised import quantise
    from shared.models.image_model import load_image_model

    model = load_image_model(source, device=device, dtype=dtype, seeing=True, **adapters)
    for network in (model.unet, *model.encoders):
        quantise(network, quantization)
    return model


def load_clips(
    source: str,
    *,
    device: str | torch.device,
    dtype: torch.dtype,
    pipeline_class: str | None = None,
    quantization: str = "none",
    parts: Mapping[str, Any] = NO_PARTS,
    **adapters: Sequence[str],
) -> VideoModel | PipelineModel:
    """A model that makes clips. quantization: of its weights (`shared.compute.quantised`). parts: of its folder, those
    that are loaded already.

    Raises ModelError for one that makes pictures, and as the loaders do.
    """
    if _by_pipeline(source, pipeline_class):
        return _load("clip", source, device, dtype, pipeline_class, quantization, parts, adapters)
    from shared.compute.quantised import quantise
    from video.generate import load_video_model

    model = load_video_model(source, device=device, dtype=dtype, **adapters)
    for network in (model.network, *model.image.encoders):
        quantise(network, quantization)
    return model


@dataclass(frozen=True)
class Call:
    """How a pipeline class is called. takes: the parameters of its call."""

    class_name: str
    takes: Takes

    def check(self, recipe: Recipe) -> None:
        """Raises InputError for a key that the class does not take."""
        check_keys(self.class_name, self.takes, recipe)


def call_asked(kind: Kind, source: str, pipeline_class: str | None = None) -> Call | None:
    """The call of the pipeline class that a kind runs a model with; None where our core runs it, for a class that is
    not there, and for a model that is not on this disk. Imports no torch.

    Raises ModelError for a model that is none.
    """
    path = find_model(source) or cached(source)
    if kind.pipelines is not None or path is None or not path.is_dir():
        return None
    runner = pipeline_of(read_index(path), pipeline_class)
    takes = None if runner is None else call_of(runner)
    return None if runner is None or takes is None else Call(runner, takes)


def planned(plan: Callable[..., Estimate], recipe: Any, device: str) -> Estimate:
    """The plan of a recipe: `plan(recipe, device=device)` for what the core runs, of a pipeline what can be said."""
    if not _by_pipeline(recipe.model, getattr(recipe, "pipeline_class", None)):
        return plan(recipe, device=device)
    from shared.plan.pipelines import plan_pipeline

    return plan_pipeline(recipe, device)


def runs_by_pipeline(folder: Path | None) -> bool:
    """Whether a model's own class is one of diffusers', by its index alone."""
    return folder is not None and folder.is_dir() and pipeline_of(read_index(folder)) is not None


def _by_pipeline(source: str, pipeline_class: str | None) -> bool:
    return pipeline_class is not None or runs_by_pipeline(resolve_model(source))


def _load(
    kind: str,
    source: str,
    device: str | torch.device,
    dtype: torch.dtype,
    pipeline_class: str | None,
    quantization: str,
    parts: Mapping[str, Any],
    adapters: Mapping[str, Sequence[str]],
) -> PipelineModel:
    if foreign := [key for key in adapters if key not in OURS]:
        raise ModelError(
            f"model {source}", expected=f"one that the core runs, for {flag_of(foreign[0])}",
            got="one that a class of diffusers runs",
        )  # fmt: skip
    from shared.models.pipelines.adapters import with_adapters
    from shared.models.pipelines.load import load_pipeline
    from shared.models.pipelines.replaced import load_replacements

    files = {name: Path(adapters[name][0]) for name in PARTS if name in adapters}
    if files:  # first, so that what does not fit is told before the rest is loaded
        path = resolve_model(source)
        parts = {**parts, **load_replacements(path, read_index(path), files, device, dtype, quantization)}
    model = load_pipeline(
        source, device=device, dtype=dtype, pipeline_class=pipeline_class, quantization=quantization, parts=parts
    )
    if model.makes != kind:
        raise ModelError(
            f"model {source}", expected=f"one that makes {COMMANDS[kind]}",
            got=f"a {model.class_name}, which makes {COMMANDS[model.makes]}", hint=f"Try: kinoform {model.makes}",
        )  # fmt: skip
    return with_adapters(model, **{name: value for name, value in adapters.items() if name not in PARTS})

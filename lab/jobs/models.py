"""Loaded models, kept between jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.kinds import Kind
from lab.kinds.kind import network_dtype
from lab.kinds.pipelines import call_asked, runs_by_pipeline
from shared.artifacts.files import sha256
from shared.models.adapters.recipe import adapters_of
from shared.models.layouts.hub import cached
from shared.models.look.lora import check_target
from shared.models.source import find_model, read_index
from shared.models.weight_files import named_files, read_json
from shared.recipe import weighted_file

if TYPE_CHECKING:
    from shared.latents.codec import Codec
    from shared.latents.preview import LatentPreview
    from shared.models.pipelines.load import PipelineModel


class Models:
    """Keeps the model that was used last: jobs that follow with the same one do not load it again."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._model: Any = None
        self._preview: LatentPreview | None = None
        self._shape: tuple[Any, PipelineModel] | None = None

    def get(self, kind: Kind, recipe: Any, device: str) -> Any:
        """The model of a recipe: on the device, unless it is offloaded; in the precision it will run in.

        Raises ModelError where it cannot be loaded.
        """
        load = kind.loader()
        where, dtype = network_dtype(recipe, device)
        # compile: a compiled network stays compiled.
        asked = getattr(recipe, "pipeline_class", None)
        key: tuple[Any, ...] = (
            load,
            recipe.model,
            asked,
            str(where),
            dtype,
            recipe.channels_last,
            recipe.compile,
            recipe.offload,
            recipe.quantization,
        )
        adapters = adapters_of(recipe)
        key += tuple((name, *((text, _content(text)) for text in texts)) for name, texts in adapters.items())
        if key != self._key:
            options: dict[str, Any] = {} if asked is None else {"pipeline_class": asked}
            if self._key is not None and not adapters and _but_class(key) == _but_class(self._key):
                options["parts"] = getattr(self._model, "parts", {})  # another class takes them over
            self._key, self._model, self._preview = None, None, None  # the old one goes before the new one comes
            if recipe.quantization != "none":
                options["quantization"] = recipe.quantization
            self._model = load(recipe.model, device=where, dtype=dtype, **options, **adapters)
            self._key = key
        return self._model

    def check(self, kind: Kind, recipe: Any) -> None:
        """Refuse what a model cannot do, with the nearest that it can, before its weights are loaded: of a pipeline of
        diffusers all that the shapes of its networks tell, else schedulers and LoRAs; and pictures that are none.

        Raises InputError. A model that is not on this disk is not looked at.
        """
        asked, scheduler = getattr(recipe, "pipeline_class", None), getattr(recipe, "scheduler", None)
        from shared.artifacts.pictures import check_pictures

        check_pictures(recipe)
        path = find_model(recipe.model) or cached(recipe.model)
        if path is None or not path.is_dir():
            return
        if call_asked(kind, recipe.model, asked) is not None:
            from shared.models.pipelines.load import load_pipeline
            from shared.models.pipelines.run import advice

            if self._shape is None or self._shape[0] != (path, asked):
                self._shape = (path, asked), load_pipeline(path, pipeline_class=asked, weights=False)
            advice(self._shape[1], recipe)
        if asked is not None or runs_by_pipeline(path):
            return
        for text in adapters_of(recipe).get("lora", ()):
            width = read_json(path / "unet" / "config.json").get("cross_attention_dim", 0)
            check_target(Path(weighted_file(text)[0]), recipe.model, width)
        if scheduler is not None:
            from shared.diffusion.schedulers import named_scheduler
            from shared.models.parts import scheduler_of

            named_scheduler(scheduler, scheduler_of(path, read_index(path)))

    def latent_preview(self, codec: Codec) -> LatentPreview:
        """Small pictures of the model's latents; made ready when first asked for."""
        from shared.latents.preview import LatentPreview

        if self._preview is None or self._preview.codec is not codec:
            self._preview = LatentPreview(codec)
        return self._preview


def _but_class(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """A model's key without the pipeline class that runs it."""
    return (*key[:2], *key[3:])


def _content(text: str) -> tuple[str, ...]:
    """What an adapter's files hold now: the same path may be written again between two jobs."""
    path = Path(weighted_file(text)[0])
    return tuple(map(sha256, named_files(path))) if path.is_file() else ()  # loading says what is wrong

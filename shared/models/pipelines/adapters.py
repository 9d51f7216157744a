"""LoRA files and learned words in a diffusers pipeline, by its own loaders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared.errors import ModelError
from shared.models.pipelines.load import PipelineModel, first_line
from shared.recipe import weighted_file


def with_adapters(model: PipelineModel, lora: Sequence[str] = (), embeddings: Sequence[str] = ()) -> PipelineModel:
    """The model with LoRAs, FILE or FILE:WEIGHT, and files of words, in place. Their headers were checked before.

    Raises ModelError where the class takes none, and for a file of which nothing fits.
    """
    if lora:
        _add_loras(model, lora)
    for file in map(Path, embeddings):
        load = getattr(model.pipeline, "load_textual_inversion", None)
        if load is None:
            raise ModelError(f"embedding {file}", expected="a model that takes words", got=f"a {model.class_name}")
        try:
            load(file, local_files_only=True)
        except Exception as error:  # the libraries below raise whatever a file makes them stumble over
            raise ModelError(f"embedding {file}", expected=f"one for {model.name}", got=first_line(error)) from error
    return model


def _add_loras(model: PipelineModel, lora: Sequence[str]) -> None:
    pipeline = model.pipeline
    names: list[str] = []
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"LoRA {lora[0]}", expected="a model that takes LoRAs", got=f"a {model.class_name}")
    for path, _ in map(weighted_file, lora):
        file, name = Path(path), f"lora{len(names)}"
        try:
            pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name, local_files_only=True)
        except Exception as error:  # the libraries below raise whatever a file makes them stumble over
            raise ModelError(f"LoRA {file}", expected=f"one for {model.name}", got=first_line(error)) from error
        if not any(name in found for found in pipeline.get_list_adapters().values()):
            raise ModelError(f"LoRA {file}", expected=f"layers of model {model.name}", got="none that fits")
        names.append(name)
    pipeline.set_adapters(names, [weight for _, weight in map(weighted_file, lora)])

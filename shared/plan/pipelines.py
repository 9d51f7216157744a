"""What can be said of a pipeline of diffusers without running it: what its weights take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from shared.compute.modes import compute_dtype
from shared.compute.quantised import QUANTISED, saved_bytes
from shared.models.adapters.recipe import weighing
from shared.models.layouts.original_networks import of_component
from shared.models.pipelines.classes import components, has_weights
from shared.models.pipelines.load import load_pipeline
from shared.models.source import read_index, resolve_model
from shared.models.weight_files import named_files, read_header, read_json, weight_files
from shared.plan.estimate import Estimate, base_bytes


def plan_pipeline(recipe: Any, device: str) -> Estimate:
    """The weights as they are loaded, in a precision or quantised; with `offload`, on a GPU, those of the largest part.

    What the pipeline computes with is not known before it runs, nor is the time. Raises ModelError for a model that is
    not there, or weights that cannot be read.
    """
    folder = resolve_model(recipe.model)
    dtype = compute_dtype(recipe.memory, device)
    replaced = weighing(recipe)
    share = _share_quantised(recipe, folder, dtype)
    parts = []
    for name, _, class_name in components(read_index(folder)):
        if has_weights(folder / name, class_name):
            files = named_files(Path(replaced[name][0])) if name in replaced else weight_files(folder / name)
            own = read_json(folder / name / "config.json") if name not in replaced else {}
            if files[0].suffix == ".gguf" or own.get("quantization_config"):  # quantised in memory as in the file
                parts.append(sum(file.stat().st_size for file in files))
                continue
            shapes = {key: shape for file in files for key, shape in read_header(file).items()}
            whole = dtype.itemsize * sum(map(math.prod, of_component(name, shapes).values()))
            parts.append(round(whole * share.get(name, 1.0)))
    weights = sum(parts) if recipe.offload == "none" else max(parts, default=0)
    base = base_bytes() if device == "cpu" else 0
    return Estimate(device, weights, base + weights, {"base": base, "weights": weights}, weights_alone=True)


def _share_quantised(recipe: Any, folder: Path, dtype: torch.dtype) -> dict[str, float]:
    """What is left of a part's bytes once it is quantised, by the names of those that are. Another file in a part's
    place is taken to be like it.
    """
    if recipe.quantization == "none":
        return {}
    asked = getattr(recipe, "pipeline_class", None)
    found = load_pipeline(folder, pipeline_class=asked, weights=False).networks
    networks = {name: network.to(dtype) for name, network in found.items() if name in QUANTISED}
    whole = {name: sum(weight.nbytes for weight in network.parameters()) for name, network in networks.items()}
    return {name: 1 - saved_bytes([network], recipe.quantization) / whole[name] for name, network in networks.items()}

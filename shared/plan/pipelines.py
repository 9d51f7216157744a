"""What can be said of a pipeline of diffusers without running it: what its weights take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from shared.compute.modes import compute_dtype
from shared.models.adapters.recipe import weighing
from shared.models.layouts.original_networks import of_component
from shared.models.pipelines.classes import components, has_weights
from shared.models.source import read_index, resolve_model
from shared.models.weight_files import named_files, read_header, weight_files
from shared.plan.estimate import Estimate, base_bytes


def plan_pipeline(recipe: Any, device: str) -> Estimate:
    """The weights in the precision that they are loaded in; with `offload`, on a GPU, those of the largest part.

    What the pipeline computes with is not known before it runs, nor is the time. Raises ModelError for a model that is
    not there, or weights that cannot be read.
    """
    folder = resolve_model(recipe.model)
    size = compute_dtype(recipe.memory, device).itemsize
    replaced = weighing(recipe)
    parts = []
    for name, _, class_name in components(read_index(folder)):
        if has_weights(folder / name, class_name):
            files = named_files(Path(replaced[name][0])) if name in replaced else weight_files(folder / name)
            if files[0].suffix == ".gguf":  # quantised in memory as in the file
                parts.append(files[0].stat().st_size)
                continue
            shapes = {key: shape for file in files for key, shape in read_header(file).items()}
            parts.append(size * sum(map(math.prod, of_component(name, shapes).values())))
    weights = sum(parts) if recipe.offload == "none" else max(parts, default=0)
    base = base_bytes() if device == "cpu" else 0
    return Estimate(device, weights, base + weights, {"base": base, "weights": weights}, weights_alone=True)

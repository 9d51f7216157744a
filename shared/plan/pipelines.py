"""What can be said of a pipeline of diffusers without running it: what its weights take."""

from __future__ import annotations

import math
from typing import Any

from shared.compute.modes import compute_dtype
from shared.models.pipelines.classes import components, has_weights
from shared.models.source import read_index, resolve_model
from shared.models.weight_files import read_header, weight_files
from shared.plan.estimate import Estimate, base_bytes


def plan_pipeline(recipe: Any, device: str) -> Estimate:
    """The weights in the precision that they are loaded in; with `offload`, on a GPU, those of the largest part.

    What the pipeline computes with is not known before it runs, nor is the time. Raises ModelError for a model that is
    not there, or weights that cannot be read.
    """
    folder = resolve_model(recipe.model)
    size = compute_dtype(recipe.memory, device).itemsize
    parts = [
        size * sum(math.prod(shape) for file in weight_files(folder / name) for shape in read_header(file).values())
        for name, _, class_name in components(read_index(folder))
        if has_weights(folder / name, class_name)
    ]
    weights = sum(parts) if recipe.offload == "none" else max(parts, default=0)
    base = base_bytes() if device == "cpu" else 0
    return Estimate(device, weights, base + weights, {"base": base, "weights": weights}, weights_alone=True)

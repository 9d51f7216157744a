"""Which guidance a recipe asks for, by name, where, and by whose score. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from shared.plugins import OneOf

CLASSIFIER_FREE = "classifier-free"
CLIP = "clip"
R = TypeVar("R", bound=Any)
ScorerName = Annotated[str, OneOf((CLIP,), "scorers")]
GuidanceName = Annotated[str, OneOf((CLASSIFIER_FREE,), "guidance")]


def guided_somewhere(recipe: R) -> R:
    """Of a recipe that says where guidance begins and ends: it begins first. Raises ValueError, for pydantic."""
    if not recipe.guidance_start < recipe.guidance_stop:
        raise ValueError("guidance_start must be less than guidance_stop")
    return recipe

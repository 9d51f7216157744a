"""Which guidance a recipe asks for, by name, and where. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from shared.plugins import OneOf

CLASSIFIER_FREE = "classifier-free"
R = TypeVar("R", bound=Any)
GuidanceName = Annotated[str, OneOf((CLASSIFIER_FREE,), "guidance")]


def guided_somewhere(recipe: R) -> R:
    """Of a recipe that says where guidance begins and ends: it begins first. Raises ValueError, for pydantic."""
    if not recipe.guidance_start < recipe.guidance_stop:
        raise ValueError("guidance_start must be less than guidance_stop")
    return recipe

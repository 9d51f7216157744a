"""All kinds, by name and by recipe."""

from __future__ import annotations

from lab.kinds.asset import ASSET
from lab.kinds.clip import CLIP
from lab.kinds.image import IMAGE
from lab.kinds.kind import Kind
from shared.errors import InputError
from shared.recipe import Recipe

KINDS: dict[str, Kind] = {kind.name: kind for kind in (CLIP, IMAGE, ASSET)}


def kind_named(name: str) -> Kind:
    """Raises InputError for another name than a kind's."""
    if name not in KINDS:
        raise InputError("kind", expected=" or ".join(KINDS), got=name)
    return KINDS[name]


def kind_of(recipe: Recipe) -> Kind:
    """The kind that a recipe describes one of."""
    return next(kind for kind in KINDS.values() if type(recipe) is kind.recipe)

"""All kinds, by name and by recipe: ours, and those of plug-ins."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from lab.kinds.asset import ASSET
from lab.kinds.clip import CLIP
from lab.kinds.image import IMAGE
from lab.kinds.kind import Kind
from shared.errors import InputError, KinoformError
from shared.plugins import installed, load
from shared.recipe import Recipe

if TYPE_CHECKING:
    from shared.artifacts.run_record import RunRecord


@cache
def kinds() -> dict[str, Kind]:
    """By name; those of plug-ins after ours. One that cannot be used is left out: `kinoform doctor` tells why."""
    found = {kind.name: kind for kind in (CLIP, IMAGE, ASSET)}
    for name in installed("kinds"):
        with suppress(KinoformError):
            found.setdefault(name, plugin_kind(name))
    return found


def plugin_kind(name: str) -> Kind:
    """The kind of a plug-in. Raises KinoformError where it cannot be used."""
    kind = load("kinds", name)
    if not isinstance(kind, Kind) or kind.name != name:
        raise KinoformError(f"plug-in {name} of kinoform.kinds", expected=f"a Kind of the name {name}", got=kind)
    return kind


def kind_of(recipe: Recipe) -> Kind:
    """The kind that a recipe describes one of."""
    return next(kind for kind in kinds().values() if type(recipe) is kind.recipe)


def kind_of_record(record: RunRecord, source: str) -> Kind:
    """The kind that made a file. Raises InputError, which names `source`, where there is none of that name."""
    if record.command not in kinds():
        raise InputError(source, expected=f"a record of {', '.join(kinds())}", got=record.command)
    return kinds()[record.command]

"""Plug-ins: what other packages add to the lab, by entry points that name where it is.

    [project.entry-points."kinoform.guidance"]
    mine = "my_package.guidance:Mine"

Only names are read until one is asked for: a package that is broken fails where it is used, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from shared.errors import InputError, KinoformError, one_line
from shared.recipe import did_you_mean

# What each group's entry points are; docs/extending.md shows one of each.
GROUPS = {
    "kinds": "a `lab.kinds.Kind`",
    "guidance": "(denoiser, negative, recipe) -> a `shared.diffusion.denoiser.Denoiser`",
    "fields": "(radius, resolution=, generator=) -> a `dreamfusion.fields.field.TrainableField`",
    "scorers": "(model) -> an object with score(frames, prompt); to guide by, with similarity(pixels, prompts), too",
}


@cache
def installed(group: str) -> dict[str, EntryPoint]:
    """The plug-ins of a group, by name, sorted; nothing is imported."""
    found = entry_points(group=f"kinoform.{group}")
    return {point.name: point for point in sorted(found, key=lambda point: point.name)}


def load(group: str, name: str) -> Any:
    """What the plug-in `name` of a group is. Raises InputError for an unknown name, KinoformError for a broken one."""
    points = installed(group)
    if name not in points:
        raise InputError(group, expected=" or ".join(points) or "an installed plug-in", got=name)
    try:
        return points[name].load()
    except Exception as error:  # whatever the code of others raises when it is imported
        reason = f"{type(error).__name__}: {one_line(str(error))}"
        raise KinoformError(
            f"plug-in {name} of kinoform.{group}", expected=f"{points[name].value} to load", got=reason,
            hint="See: kinoform doctor",
        ) from error  # fmt: skip


@dataclass(frozen=True)
class OneOf:
    """Of a recipe's key: its value is one of our own names or of a group of plug-ins. Annotated[str, OneOf(...)]."""

    own: tuple[str, ...]
    group: str

    def names(self) -> list[str]:
        return [*self.own, *(name for name in installed(self.group) if name not in self.own)]

    def check(self, value: str) -> str:
        """Raises pydantic's error for another value."""
        names = self.names()
        if value not in names:
            about = {"names": " or ".join(names), "hint": did_you_mean(value, names)}
            raise PydanticCustomError("one_of", "{names}", about)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

"""What the pipeline class of a recipe's model decides where the recipe says nothing. Imports no torch."""

from __future__ import annotations

from typing import Any

from lab.kinds.kind import Kind
from lab.kinds.pipelines import Call, call_asked
from shared.models.pipelines.keys import R, completed, names_of
from shared.models.pipelines.source import call_of, sibling

PICTURES = ("image", "mask")


class Settler:
    """Settles recipes; each model is looked at once.

    A picture or a mask that the class of the model does not take makes diffusers' class for that the recipe's
    `pipeline_class`; steps, guidance and the like that are not set are the class's own.
    """

    def __init__(self) -> None:
        self._calls: dict[Any, Call | None] = {}

    def __call__(self, kind: Kind, recipe: R) -> R:
        """The recipe, settled. Raises ModelError for a model that is none; one not on this disk settles nothing."""
        if kind.pipelines is not None:
            return recipe
        values = vars(recipe)
        pictures = tuple(key for key in PICTURES if values.get(key) is not None)
        key = kind.name, values["model"], values.get("pipeline_class"), pictures
        if key not in self._calls:
            self._calls[key] = _call_with(kind, *key[1:])
        call = self._calls[key]
        if call is None:
            return recipe
        if pictures and values.get("pipeline_class") is None:
            recipe = recipe.model_copy(update={"pipeline_class": call.class_name})
        return completed(call.takes, recipe)


def _call_with(kind: Kind, model: str, asked: str | None, pictures: tuple[str, ...]) -> Call | None:
    call = call_asked(kind, model, asked)
    if call is None or asked is not None or {*pictures} <= names_of(call.takes).keys():
        return call
    other = sibling(call.class_name, mask="mask" in pictures)
    takes = None if other is None else call_of(other)
    return call if other is None or takes is None else Call(other, takes)

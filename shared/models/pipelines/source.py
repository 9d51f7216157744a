"""What a class of the installed diffusers is called with, read from its source. Imports neither it nor torch."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from functools import cache
from inspect import Parameter
from pathlib import Path

from shared.models.pipelines.keys import Takes


@cache
def call_of(class_name: str) -> Takes | None:
    """The parameters of a class's call, or of that of the class that it inherits it from; None for a class that is not
    there. Defaults that are no literals are None.
    """
    classes = _classes(class_name)
    return _call(classes.get(class_name), classes)


def _classes(class_name: str) -> Mapping[str, ast.ClassDef]:
    """The classes of the file of diffusers that defines `class_name`."""
    found = importlib.util.find_spec("diffusers")
    for place in [] if found is None else list(found.submodule_search_locations or ()):
        for file in sorted((Path(place) / "pipelines").rglob("pipeline_*.py")):
            text = file.read_text(encoding="utf-8")
            if f"class {class_name}(" in text:
                return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    return {}


def _call(node: ast.ClassDef | None, classes: Mapping[str, ast.ClassDef]) -> Takes | None:
    if node is None:
        return None
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__call__":
            return {parameter.name: parameter for parameter in _parameters(part.args)}
    bases = (
        classes.get(base.id) or _classes(base.id).get(base.id) for base in node.bases if isinstance(base, ast.Name)
    )
    return next((call for base in bases if (call := _call(base, classes)) is not None), None)


def _parameters(arguments: ast.arguments) -> Iterator[Parameter]:
    """All but `self`, as `inspect.signature` has them."""
    placed = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(placed) - len(arguments.defaults)) + [*arguments.defaults]
    for argument, default in list(zip(placed, defaults, strict=True))[1:]:
        yield Parameter(argument.arg, Parameter.POSITIONAL_OR_KEYWORD, default=_literal(default))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield Parameter(argument.arg, Parameter.KEYWORD_ONLY, default=_literal(default))
    if arguments.kwarg is not None:
        yield Parameter(arguments.kwarg.arg, Parameter.VAR_KEYWORD)


def _literal(node: ast.expr | None) -> object:
    if node is None:
        return Parameter.empty
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None

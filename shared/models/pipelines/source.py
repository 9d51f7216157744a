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


@cache
def sibling(class_name: str, *, mask: bool) -> str | None:
    """The class that paints a part of a picture anew (mask), or another picture like it, with the same parts: by the
    tables of diffusers' AutoPipeline. None where they have none.
    """
    tables = _tables()
    wanted = tables.get(f"AUTO_{'INPAINT' if mask else 'IMAGE2IMAGE'}_PIPELINES_MAPPING", {})
    names = (model for table in tables.values() for model, known in table.items() if known == class_name)
    return next((wanted[model] for model in names if model in wanted), None)


@cache
def _tables() -> Mapping[str, Mapping[str, str]]:
    """The mappings of AutoPipeline by their names: model -> class."""
    found: dict[str, dict[str, str]] = {}
    for file in (place / "auto_pipeline.py" for place in _places()):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                pairs = [pair.elts for pair in ast.walk(node.value) if isinstance(pair, ast.Tuple)]
                found[node.targets[0].id] = {
                    str(pair[0].value): pair[1].id
                    for pair in pairs
                    if len(pair) == 2 and isinstance(pair[0], ast.Constant) and isinstance(pair[1], ast.Name)
                }
    return found


def _places() -> list[Path]:
    """The folder of diffusers' pipelines, without importing them."""
    found = importlib.util.find_spec("diffusers")
    return [] if found is None else [Path(place) / "pipelines" for place in found.submodule_search_locations or ()]


def _classes(class_name: str) -> Mapping[str, ast.ClassDef]:
    """The classes of the file of diffusers that defines `class_name`."""
    for place in _places():
        for file in sorted(place.rglob("pipeline_*.py")):
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

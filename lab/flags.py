"""Command-line flags derived from recipes: one schema behind the YAML file and the flag.

Every scalar field of a recipe is a flag of the same name (`guidance_scale` -> `--guidance-scale`), with two exceptions:
`prompt` is positional (each command adds it), and `width` with `height` is `--size WxH`. A flag that was not given
leaves no trace, so that preset values and then the recipe's own defaults show through; values stay text until the
recipe validates them.
"""

from __future__ import annotations

import argparse
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

from shared.compute.policy import MemoryPolicy
from shared.errors import InputError
from shared.plugins import OneOf
from shared.recipe import Recipe, did_you_mean, load_preset, preset_names

R = TypeVar("R", bound=Recipe)

RUNNING = "running"  # title of the group of flags on how a command runs
_METAVAR = {int: "N", float: "X", str: "TEXT"}


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises `InputError` where the stock one prints its usage and exits."""

    def __init__(self, **options: Any) -> None:
        options.setdefault(
            "formatter_class", lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=110)
        )
        super().__init__(allow_abbrev=False, argument_default=argparse.SUPPRESS, **options)

    def error(self, message: str) -> NoReturn:
        hint = f"See: {self.prog} --help"
        what, _, detail = message.removeprefix("argument ").partition(": ")
        choice = re.fullmatch(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", detail, re.DOTALL)
        if choice:
            got, known = choice[1], choice[2].replace("'", "")
            raise InputError(what, expected=known, got=got, hint=did_you_mean(got, known.split(", ")) or hint)
        if message.startswith("the following arguments are required: "):
            raise InputError(self.prog.removeprefix("kinoform "), expected=detail, got="nothing", hint=hint)
        raise InputError(what, expected=detail.removeprefix("expected ") or None, hint=hint)

    def format_help(self) -> str:
        """The usual help, with what every command has at the end."""
        self._action_groups.sort(key=lambda group: group.title == RUNNING)
        return super().format_help()

    def running(self) -> Any:
        """The group of flags on how the command itself runs."""
        return next(
            (group for group in self._action_groups if group.title == RUNNING), None
        ) or self.add_argument_group(RUNNING)

    def flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Raise for arguments nothing took, naming the nearest flag."""
        first = unknown[0]
        if not first.startswith("-"):
            raise InputError(
                "arguments", expected="one prompt or file", got=first, hint='Put quotes around it: "a red cube"'
            )
        hint = did_you_mean(first.partition("=")[0], self.flags()) or f"See: {self.prog} --help"
        raise InputError("flag", expected=f"one that {self.prog} has", got=first, hint=hint)


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], help: str, examples: Sequence[str] = ()
) -> Parser:
    """The parser of one command, with the flags every command has; `run` gets the parsed arguments."""
    epilog = "\n".join(["examples:", *(f"  {example}" for example in examples)]) if examples else None
    parser: Parser = commands.add_parser(name, help=help, description=help, epilog=epilog)
    running = parser.running()
    running.add_argument("--json", action="store_true", default=False, help="print one line of JSON as the result")
    running.add_argument("--traceback", action="store_true", help="on an error, show where it came from")
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_device_flag(parser: Parser) -> None:
    """`--device`, which `lab.device.pick` reads."""
    parser.running().add_argument(
        "--device", metavar="{auto,cpu,cuda}", default="auto", help="where to compute (default auto)"
    )


def add_sign_flag(place: Any) -> None:
    """`--sign`, which `lab.outputs.signer` reads."""
    place.add_argument(
        "--sign", metavar=("CERT", "KEY"), nargs=2, help="sign what is written (C2PA): PEM files of a certificate "
        "and its key; equal runs then give no equal bytes",
    )  # fmt: skip


def add_recipe_flags(
    parser: Parser, recipe: type[Recipe], *, kind: str, preset: str | None = None, first: Sequence[str] = ()
) -> None:
    """Add a flag for every scalar field of `recipe` but `prompt`, and `--preset` with the presets of `kind`.

    preset: the one to start from where the user names none; others are offered only if their name begins with it.
    first: those that people use first; they stand at the top of the help, not in groups.
    """
    group = parser.add_argument_group("recipe")
    memory = parser.add_argument_group("memory")  # empty groups are not shown
    fields = recipe.model_fields.items()
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields if not field.is_required()}
    defaults |= load_preset(kind, preset) if preset else {}

    def add_preset(place: Any) -> None:
        names = ", ".join(name for name in preset_names(kind) if name.startswith(preset or ""))
        usual = f"; default {preset}" if preset else ""
        place.add_argument("--preset", metavar="NAME", help=f"start from configs/{kind}/NAME.yaml ({names}{usual})")

    def add(place: Any, name: str) -> None:
        field = recipe.model_fields[name]
        names = [known for mark in field.metadata if isinstance(mark, OneOf) for known in mark.names()]
        annotation = Literal[tuple(names)] if names else field.annotation
        if name in recipe.files_keys():
            _add_files_flag(place, name, field.description or "")
            return
        metavar = "FILE" if name in recipe.file_keys() else None
        _add_flag(place, name, annotation, field.description or "", defaults.get(name), metavar)

    for name in first:
        add_preset(parser) if name == "preset" else add(parser, name)
    if "preset" not in first:
        add_preset(group)
    sized = {"width", "height"} <= set(defaults)
    for name in recipe.model_fields:
        if name in first or name == "prompt":
            continue
        if sized and name == "width":
            default = "the model's own" if defaults[name] is None else f"{defaults[name]}x{defaults['height']}"
            group.add_argument("--size", metavar="WxH", help=f"width and height in pixels (default {default})")
        elif not (sized and name == "height"):
            add(memory if name in MemoryPolicy.model_fields else group, name)


def add_memory_flags(parser: Parser, names: Sequence[str]) -> None:
    """The flags of some fields of a `MemoryPolicy`, for a command without a recipe of its own."""
    memory = parser.add_argument_group("memory")
    for name in names:
        field = MemoryPolicy.model_fields[name]
        _add_flag(memory, name, field.annotation, field.description or "", None)


def _add_flag(group: Any, name: str, annotation: Any, text: str, default: Any, metavar: str | None = None) -> None:
    flag = "--" + name.replace("_", "-")
    kind, options = _scalar(annotation)
    if kind is None:
        return  # a nested field: presets hold it
    if default not in (None, ""):
        text = f"{text} (default {default})".strip()
    if kind is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
    else:
        choices = "{" + ",".join(map(str, options)) + "}" if options else _METAVAR.get(kind, "TEXT")
        group.add_argument(flag, metavar=metavar or choices, help=text.replace("%", "%%"))


def _add_files_flag(group: Any, name: str, text: str) -> None:
    group.add_argument(flag_of(name), dest=name, metavar="FILE", action="append", help=f"{text}; may be repeated")


def flag_of(key: str) -> str:
    """The flag of a recipe's key that names a file or several: of several, one at a time ("embeddings.0", too).

    >>> flag_of("image"), flag_of("embeddings.0")
    ('--image', '--embedding')
    """
    return "--" + key.partition(".")[0].removesuffix("s").replace("_", "-")


def _scalar(annotation: Any) -> tuple[type | None, tuple]:
    """The type behind a field's annotation (None when it is no scalar) and its allowed values (empty: any)."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        return _scalar(inner[0]) if len(inner) == 1 else (str, ())
    if get_origin(annotation) is Literal:
        return str, get_args(annotation)
    if (
        get_origin(annotation) is None
        and isinstance(annotation, type)
        and not issubclass(annotation, (BaseModel, list, tuple, dict, set))
    ):
        return annotation, ()
    return None, ()


def parse_recipe(recipe: type[R], args: argparse.Namespace, *, kind: str, preset: str | None = None) -> R:
    """The full recipe: its defaults, overridden by `--preset` (else by `preset`), overridden by the flags given."""
    return recipe.parse(given_values(recipe, vars(args), kind=kind, preset=preset))


def given_values(
    recipe: type[Recipe], given: Mapping[str, Any], *, kind: str, preset: str | None = None
) -> dict[str, Any]:
    """What is given of a recipe: the keys of the preset (`given["preset"]`, else `preset`), those of `given` over them.

    `given` may hold `size` ("64x64") for width and height; what is no key of the recipe is passed over.
    """
    values = {name: value for name, value in given.items() if name in recipe.model_fields}
    if "size" in given and "size" not in recipe.model_fields:
        values["width"], values["height"] = _size(str(given["size"]))
    if "prompt" in values and not str(values["prompt"]).strip():
        raise InputError("prompt", expected="some words", got="an empty text")
    start = given.get("preset", preset)
    return {**(load_preset(kind, start) if start else {}), **values}


def _size(text: str) -> tuple[str, str]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise InputError("--size", expected="WIDTHxHEIGHT in pixels, such as 64x64", got=text)
    return width, height

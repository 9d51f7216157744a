"""Names of many results: a folder, or a template with fields such as `out/{index}-{prompt}.png`.

Fields: {index} from 1, {seed}, {prompt} as a short file name, {kind}.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.kinds import Kind
from shared.errors import InputError
from shared.recipe import did_you_mean

FIELDS = ("index", "seed", "prompt", "kind")
LONGEST_PROMPT = 60  # characters of a prompt in a file name
SHEET = "contact-sheet.png"  # beside many results


def many(output: str) -> bool:
    """Whether `output` names a place for many results: a template, or a folder; one with an ending needs a slash."""
    return "{" in output or output.endswith("/") or (Path(output).is_dir() and not Path(output).suffix)


def names(output: str, kind: Kind, recipes: Sequence[Any]) -> list[str]:
    """A file for every recipe, by the template or in the folder `output`.

    Raises InputError for an unknown field, and where two results would have one name.
    """
    template = output if "{" in output else str(Path(output) / ("{index}-{prompt}-{seed}" + Path(kind.default).suffix))
    _check_template(template)
    width = max(3, len(str(len(recipes))))
    made = [
        template.format(index=f"{number:0{width}d}", seed=recipe.seed, prompt=slug(recipe.prompt), kind=kind.name)
        for number, recipe in enumerate(recipes, 1)
    ]
    seen: dict[str, int] = {}
    for number, name in enumerate(made, 1):
        if name in seen:
            raise InputError(
                f"output {output}", expected="a name of its own for each result",
                got=f"{name} for number {seen[name]} and number {number}", hint="Put {index} into the template",
            )  # fmt: skip
        seen[name] = number
    return made


def folder_of(output: str) -> Path:
    """The folder that many results go to: the part of a template before its first field."""
    return Path(output.partition("{")[0] + "x").parent if "{" in output else Path(output)


def slug(prompt: str) -> str:
    """A prompt as part of a file name: its words in lower case, joined by hyphens; letters of any script."""
    words = re.findall(r"\w+", prompt.lower())
    return "-".join(words)[:LONGEST_PROMPT].strip("-") or "untitled"


def _check_template(template: str) -> None:
    try:
        fields = [(name, spec) for _, name, spec, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise InputError("output", expected="a template such as out/{index}-{prompt}.png", got=template) from error
    for name, spec in fields:
        if name not in FIELDS or spec:
            wanted = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise InputError(f"output {template}", expected=f"fields {wanted}", got="{" + name + "}",
                             hint=did_you_mean(name, FIELDS))  # fmt: skip

"""Choices in prompts: `{red|blue}` draws one of its alternatives, `{{animals}}` a line of the file animals.txt.

Alternatives may be empty and hold choices again, and so may the lines of a file. Braces without a bar are text, and
`\\{`, `\\|` and `\\}` are the signs themselves. The same seed draws the same from the same template, anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from random import Random

from lab.batch.manifest.documents import lines_of, read_bytes
from lab.batch.manifest.keys import moved
from shared.errors import InputError

TOKEN = re.compile(r"\\[{}|]|\{\{[^{}|]+\}\}|[{}|]|[^\\{}|]+|\\")
FOLDER = "wildcards"  # beside the manifest, for files of alternatives
MOST_CHARACTERS = 100_000  # of a template, and of what is drawn; recipes take fewer
MOST_DRAWS = 10_000  # for one prompt
MOST_NESTED = 20  # choices in one another, in one template
MOST_FILES_DEEP = 10  # files that lead to one another
MOST_FILE_BYTES = 2 * 1024**2  # of all files together


@dataclass(frozen=True, slots=True)
class Choice:
    alternatives: tuple[Template, ...]


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A line of the file of that name."""

    name: str


Template = tuple["str | Choice | Wildcard", ...]


class Choices:
    """Draws for the prompts of a manifest in `folder`. Files and templates are read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.templates: dict[str, Template] = {}
        self.files: dict[str, list[str | Template]] = {}
        self._bytes_left = MOST_FILE_BYTES

    def draw(self, template: str, seed: int, place: str) -> tuple[str, bool]:
        """The prompt, and whether anything was drawn for it.

        Raises InputError at `place` for an unbalanced brace, and for a file that is not there or leads to itself.
        """
        parsed = self.templates.get(template)
        if parsed is None:
            try:
                parsed = parse(template)
                for name in _wildcards(parsed):
                    self._read(name, ())
            except InputError as error:
                raise moved(error, f"{place}{error.what}") from error
            self.templates[template] = parsed
        if all(isinstance(part, str) for part in parsed):
            return "".join(map(str, parsed)), False
        drawn: list[str] = []
        self._draw(parsed, Random(f"{seed}:{template}"), drawn)
        if len(drawn) > MOST_DRAWS or sum(map(len, drawn)) > MOST_CHARACTERS:
            most = f"a prompt of at most {MOST_CHARACTERS} characters, from {MOST_DRAWS} parts"
            raise InputError(place, expected=most, got="choices that make a longer one")
        return "".join(drawn), True

    def _draw(self, template: Template, random: Random, drawn: list[str]) -> None:
        for part in template:
            if len(drawn) > MOST_DRAWS:
                return
            if isinstance(part, str):
                drawn.append(part)
                continue
            options = part.alternatives if isinstance(part, Choice) else self.files[part.name]
            option = options[random.randrange(len(options))]
            drawn.append("")  # a draw counts, even of nothing
            self._draw((option,) if isinstance(option, str) else option, random, drawn)

    def _read(self, name: str, above: tuple[str, ...]) -> None:
        """The lines of a file, and those of the files that they name, into `files`."""
        if name in above or len(above) >= MOST_FILES_DEEP:
            way = " -> ".join([*above, name])
            raise InputError(f", wildcard {name}", expected="files that do not lead to themselves",
                             got=way if name in above else f"{MOST_FILES_DEEP} that lead to one another")  # fmt: skip
        if name in self.files:
            return
        lines = self._lines(name, self._find(name))
        inside = (inner for line in lines if not isinstance(line, str) for inner in _wildcards(line))
        for inner in dict.fromkeys(inside):
            self._read(inner, (*above, name))
        self.files[name] = lines

    def _lines(self, name: str, path: Path) -> list[str | Template]:
        """The lines of a file that are neither blank nor comments, parsed where they hold choices."""
        what = f", wildcard {name}"
        try:
            data = read_bytes(path, self._bytes_left)
            self._bytes_left -= len(data)
            said = [(place, line) for place, line in lines_of(data) if not line.startswith("#")]
        except InputError as error:
            raise moved(error, f"{what}, {error.what}") from error
        if not said:
            raise InputError(what, expected="at least one line", got=f"none in {path.name}")
        lines: list[str | Template] = []
        for place, line in said:
            try:
                lines.append(parse(line) if has_choices(line) else line)
            except InputError as error:
                raise moved(error, f"{what}, {place}{error.what}") from error
        return lines

    def _find(self, name: str) -> Path:
        """The file of a wildcard, in the manifest's folder or its `wildcards`, and nowhere else."""
        what = f", wildcard {name}"
        strange = any(part.strip() in ("", ".", "..") for part in name.split("/"))
        if strange or not name.isprintable() or "\\" in name or ":" in name:
            raise InputError(what, expected=f"a file in the manifest's folder or in {FOLDER}/", got=name)
        for folder in (self.folder, self.folder / FOLDER):
            for path in (folder / name, folder / f"{name}.txt"):
                try:
                    if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                        return path
                except (OSError, RuntimeError):  # a name too long, a circle of links
                    continue
        raise InputError(what, expected=f"{name}.txt beside the manifest or in {FOLDER}/", got="no such file",
                         hint="Two braces as text are \\{\\{ and \\}\\}")  # fmt: skip


def has_choices(template: str) -> bool:
    """Whether there are braces in it, at least."""
    return "{" in template or "}" in template


def parse(template: str) -> Template:
    """What a template is made of. InputError, whose `what` begins with a comma, for a brace without its other."""
    if not has_choices(template):
        return (template,)
    if len(template) > MOST_CHARACTERS:
        raise InputError("", expected=f"at most {MOST_CHARACTERS} characters", got=f"{len(template)} characters")
    # Of each brace that is open: where it stands, and its alternatives so far. The first is the template itself.
    open_: list[tuple[int, list[list[str | Choice | Wildcard]]]] = [(0, [[]])]
    for found in TOKEN.finditer(template):
        token = found[0]
        if token == "{":
            if len(open_) > MOST_NESTED:
                raise InputError("", expected=f"at most {MOST_NESTED} choices in one another", got="more")
            open_.append((found.start(), [[]]))
        elif token == "|" and len(open_) > 1:
            open_[-1][1].append([])
        elif token == "}":
            if len(open_) == 1:
                raise _unbalanced(template, found.start())
            alternatives = open_.pop()[1]
            around = open_[-1][1][-1]
            if len(alternatives) == 1:
                around += ["{", *alternatives[0], "}"]
            else:
                around.append(Choice(tuple(map(_joined, alternatives))))
        elif token.startswith("{{"):
            open_[-1][1][-1].append(Wildcard(token[2:-2].strip()))
        else:
            open_[-1][1][-1].append(token[1:] if len(token) == 2 and token[0] == "\\" else token)
    if len(open_) > 1:
        raise _unbalanced(template, open_[-1][0])
    return _joined(open_[0][1][0])


def _joined(parts: Sequence[str | Choice | Wildcard]) -> Template:
    """The same, with texts that follow one another as one."""
    joined: list[str | Choice | Wildcard] = []
    for text, group in groupby(parts, lambda part: isinstance(part, str)):
        several = list(group)
        joined += ["".join(map(str, several))] if text else several
    return tuple(joined)


def _wildcards(template: Template) -> list[str]:
    """The names of files in it, in order."""
    names: list[str] = []
    for part in template:
        if isinstance(part, Wildcard):
            names.append(part.name)
        elif isinstance(part, Choice):
            names += [name for inner in part.alternatives for name in _wildcards(inner)]
    return list(dict.fromkeys(names))


def _unbalanced(template: str, index: int) -> InputError:
    return InputError(
        f", character {index + 1}", expected="braces in pairs, as in {red|blue}", got=template[index : index + 40],
        hint="For the sign itself write \\{ or \\}",
    )  # fmt: skip

"""Where results go below their folder: names that every system takes, none twice and none inside another."""

from __future__ import annotations

import re
import string
import unicodedata
from functools import cache, lru_cache
from posixpath import splitext

from lab.batch.manifest.drafts import Draft
from lab.batch.manifest.keys import at
from lab.jobs.names import slug
from lab.kinds import kinds
from shared.errors import InputError
from shared.recipe import did_you_mean

FIELDS = ("name", "index", "seed", "prompt", "kind")
MOST_PART_BYTES = 200  # of a file's or folder's name: disks take 255, and what is being written has a longer one
MOST_BYTES = 1000  # of a path below the folder of results
SLUG_BYTES = 96
FORBIDDEN = re.compile(r'[<>:"|?*\\]')  # on one system or another
# Names that Windows keeps for devices, whatever ending they have.
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in "123456789¹²³")}
RULES = 'no \\ : < > " | ? *, no dot in front and none at the end, no blank at either'


class Outputs:
    """The paths that are taken, by how a disk compares them that does not tell capitals."""

    def __init__(self) -> None:
        self.taken: dict[str, Draft] = {}

    def name(self, draft: Draft, sort: str, suffix: str) -> str:
        """A draft's output: by its template, or else its name with `suffix`. sort: of what it makes.

        Raises InputError for a path that is not below the folder of results or not a name everywhere, that is taken,
        or that ends as no file of that sort does.
        """
        name = draft.id.replace("/", "-")
        template = draft.keys.output
        place = draft.place
        if template is None:
            output, place = name + suffix, at(place, "name")
        else:
            place = draft.place_of("output")
            _check_template(template, place)
            output = template.format(
                name=name, index=draft.index, seed="" if draft.seed is None else draft.seed,
                prompt=short_slug(draft.words), kind=draft.step.name,
            )  # fmt: skip
            if output.endswith("/") and not splitext(output[:-1])[1]:
                output = output[:-1]  # of a folder
        check_path(output, place)
        _check_ending(output, sort, suffix, place)
        key = unicodedata.normalize("NFC", output).casefold()
        if key in self.taken:
            other = self.taken[key]
            raise InputError(place, expected="an output of its own for every task", got=f"{output}, as of {other.id}",
                             hint="Put {name} into the template" if template else "")  # fmt: skip
        self.taken[key] = draft
        return output

    def check_apart(self) -> None:
        """Refuse a path that leads through another, which may be a folder of pictures."""
        for key, draft in self.taken.items():
            start = key.find("/")
            while start >= 0:
                other = self.taken.get(key[:start])
                if other is not None:
                    raise InputError(draft.place_of("output"), expected="outputs beside one another",
                                     got=f"{draft.id} inside the output of {other.id}")  # fmt: skip
                start = key.find("/", start + 1)


@lru_cache(4096)
def short_slug(prompt: str) -> str:
    """A prompt as part of a file's name, short in bytes, too."""
    return slug(prompt).encode("utf-8", "ignore")[:SLUG_BYTES].decode("utf-8", "ignore").strip("-") or "untitled"


def check_name(name: str, place: str) -> None:
    """Refuse a name that is no file's name, or that has a slash in it."""
    if "/" in name:
        raise InputError(place, expected="a name without slashes", got=name)
    check_path(name, place)


def check_path(path: str, place: str) -> None:
    """Refuse what is no path of plain names below a folder."""
    if len(path.encode("utf-8", "replace")) > MOST_BYTES:
        raise InputError(place, expected=f"at most {MOST_BYTES} bytes", got=path)
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise InputError(place, expected="a path below the folder of results", got=path or "an empty name")
        if not part.isprintable() or FORBIDDEN.search(part) or part[0] in ". " or part[-1] in ". ":
            raise InputError(place, expected=f"names that every system takes: {RULES}", got=path)
        if part.partition(".")[0].rstrip().upper() in RESERVED:
            raise InputError(place, expected="a name that Windows does not keep for a device", got=path)
        if len(part.encode()) > MOST_PART_BYTES:
            raise InputError(place, expected=f"names of at most {MOST_PART_BYTES} bytes", got=part)


@cache
def endings(sort: str) -> tuple[str, ...]:
    """The endings of a kind's files, as its help has them; "" where it may be a folder. None of them: any will do."""
    kind = kinds()[sort]
    return (*re.findall(r"\.\w+", kind.formats), *([""] if kind.in_folder else []))


@lru_cache(1024)
def _fields(template: str) -> list[tuple[str, str | None, str | None]] | None:
    """The fields of a template, with how they are to be written; None where it is none."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return None
    return [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]


def _check_template(template: str, place: str) -> None:
    fields = _fields(template)
    if fields is None:
        raise InputError(place, expected="a template such as cubes/{name}.png", got=template)
    for name, spec, conversion in fields:
        if name not in FIELDS or spec or conversion:
            wanted = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise InputError(place, expected=f"fields {wanted}", got="{" + name + "}", hint=did_you_mean(name, FIELDS))


def _check_ending(output: str, sort: str, suffix: str, place: str) -> None:
    """A kind tells most endings in its words; those that it leaves out the formats know, which take long to import."""
    known = endings(sort) if sort in kinds() else (suffix,)
    ending = splitext(output)[1].lower()
    if not known or ending in known or (sort in ("image", "clip") and ending in _formats(sort)):
        return
    words = ", ".join(filter(None, known)) + (" or a folder" if "" in known else "")
    raise InputError(place, expected=f"a name ending in {words}", got=output)


def _formats(sort: str) -> tuple[str, ...]:
    from shared.artifacts.media import CLIP_SUFFIXES, IMAGE_SUFFIXES

    return IMAGE_SUFFIXES if sort == "image" else CLIP_SUFFIXES

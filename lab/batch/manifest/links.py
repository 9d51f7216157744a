"""Which task takes whose output, for which key of its recipe, and of which sort that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from pathlib import PurePath

from lab.batch.manifest.drafts import Draft
from lab.batch.manifest.keys import at, recipe_keys
from lab.batch.manifest.outputs import endings
from lab.batch.step import SAME
from lab.batch.steps import steps
from lab.kinds import kinds
from shared.errors import InputError
from shared.recipe import did_you_mean

MOST_NEAR = 2000  # names that are compared with one that is not there
OTHER_PICTURES = (".jpeg", ".jfif", ".bmp", ".tif", ".tiff")  # that are read, though none is written


def in_order(drafts: Mapping[str, Draft]) -> Iterator[Draft]:
    """The drafts, each after those whose output it takes.

    Raises InputError for an id that is none, naming the nearest, and for a circle.
    """
    needs = {}
    for draft in drafts.values():
        for key, id in draft.keys.inputs.items():
            if id not in drafts:
                raise _missing(at(at(draft.place, "inputs"), key), id, drafts)
        if draft.parent is not None or draft.keys.inputs:
            needs[draft.id] = [*draft.keys.inputs.values(), *([draft.parent] if draft.parent is not None else [])]
    yield from (draft for draft in drafts.values() if draft.id not in needs)
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = error.args[1][:-1]
        positions = {id: position for position, id in enumerate(needs)}
        start = min(range(len(circle)), key=lambda index: positions[circle[index]])
        way = [*circle[start:], *circle[: start + 1]]
        raise InputError(at(drafts[way[0]].place, "inputs"), expected="no circle", got=" -> ".join(way)) from error
    yield from (drafts[id] for id in order if id in needs)


class Links:
    """Finds what fills the keys of one draft after another. sorts: of what each makes."""

    def __init__(self) -> None:
        self.sorts: dict[str, str] = {}
        self._takes: dict[str, Mapping[str, frozenset[str]]] = {}
        self._suffixes: dict[str, str | None] = {}

    def find(self, draft: Draft) -> str:
        """Finds the keys that a draft's inputs fill, into `draft.inputs`; returns the sort of what it makes.

        What comes before it in a chain takes the first key that takes its sort and that nothing else fills.
        """
        step = draft.step
        takes = self._takes.get(step.name)
        if takes is None:
            takes = self._takes[step.name] = step.takes
        for key, id in draft.keys.inputs.items():
            self._named(draft, key, id, takes)
        if draft.parent is not None:
            self._chained(draft, draft.parent, takes)
        filled = [key for key in takes if key in draft.inputs or draft.values.get(key) is not None]
        if takes and not filled and (step.makes == SAME or "prompt" not in recipe_keys(step)):
            key = next(iter(takes))
            wanted = f"a file, or in inputs a job that makes {_one_of(takes[key])}"
            raise InputError(at(draft.place, key), expected=wanted, got="nothing")
        sort = step.makes
        if sort == SAME and filled[0] in draft.inputs:
            sort = self.sorts[draft.inputs[filled[0]]]
        elif sort == SAME:
            key = filled[0]
            sort = sort_of_file(str(draft.values[key]))
            if sort not in takes[key]:
                raise InputError(draft.place_of(key), expected=_one_of(takes[key]), got=draft.values[key])
        self.sorts[draft.id] = sort
        return sort

    def suffix(self, draft: Draft, sort: str, files: Mapping[str, str | None]) -> str:
        """The ending of a draft's output where the manifest names none: its step's, or that of what it takes.

        files: by the keys of its recipe.
        """
        name = draft.step.name
        if name not in self._suffixes:
            self._suffixes[name] = draft.step.suffix
        suffix = self._suffixes[name]
        if suffix is not None:
            return suffix
        taken = next((file for key in self._takes[name] if (file := files.get(key)) is not None), "")
        suffix = PurePath(taken).suffix.lower()
        return suffix if suffix in endings(sort) else PurePath(kinds()[sort].default).suffix

    def _named(self, draft: Draft, key: str, id: str, takes: Mapping[str, frozenset[str]]) -> None:
        """An input that the manifest names."""
        place = at(at(draft.place, "inputs"), key)
        if key not in takes:
            keys = f"a key that takes a file: {', '.join(takes)}" if takes else f"none: {draft.step.name} takes no file"
            raise InputError(place, expected=keys, got=key, hint=did_you_mean(key, takes))
        if draft.said.get(key) is not None:
            raise InputError(place, expected="a file or an input", got=f"both for {key}")
        if self.sorts[id] not in takes[key]:
            made = f"{id}, which makes {_one_of([self.sorts[id]])}"
            raise InputError(place, expected=f"what makes {_one_of(takes[key])}", got=made)
        draft.inputs[key] = id
        draft.values.pop(key, None)  # a default

    def _chained(self, draft: Draft, parent: str, takes: Mapping[str, frozenset[str]]) -> None:
        """The input that comes before it in a chain."""
        sort = self.sorts[parent]
        fitting = [key for key, sorts in takes.items() if sort in sorts]
        free = [key for key in fitting if key not in draft.inputs and draft.said.get(key) is None]
        if free:
            draft.inputs[free[0]] = parent
        elif fitting:
            wanted = f"a key of {draft.step.name} left for what is before it"
            raise InputError(draft.place, expected=wanted, got=f"{', '.join(fitting)} given")
        else:
            able = [name for name, step in steps().items() if any(sort in sorts for sorts in step.takes.values())]
            wanted = f"{', '.join(able) or 'nothing'} after {parent}, which makes {_one_of([sort])}"
            raise InputError(at(draft.place, "kind"), expected=wanted, got=draft.step.name)


def sort_of_file(path: str) -> str:
    """What a file is, by its ending."""
    suffix = PurePath(path).suffix.lower()
    if suffix in endings("asset"):
        return "asset"
    return "image" if suffix in (*endings("image"), *OTHER_PICTURES) else "clip"


def _one_of(sorts: Iterable[str]) -> str:
    articles = {"text": ""}
    return " or ".join(articles.get(sort, "an " if sort[0] in "aeiou" else "a ") + sort for sort in sorted(sorts))


def _missing(place: str, id: str, drafts: Mapping[str, Draft]) -> InputError:
    alike = (other for other in drafts if other[:2] == id[:2])
    near = [*islice(alike, MOST_NEAR), *islice(drafts, MOST_NEAR)]
    return InputError(place, expected="the name of a job, or the id of a step", got=id, hint=did_you_mean(id, near))

"""YAML as plain values, within limits.

It is composed here from the parser's events, in a loop: what is deep, or repeats itself through aliases, is counted as
it comes and refused before it costs anything. Aliases and merge keys (`<<: *common`) are understood; tags of one's own,
several documents and a key twice are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import yaml

from lab.batch.manifest.documents import MOST_DEPTH, too_deep
from lab.batch.manifest.keys import UNKNOWN, moved
from shared.errors import InputError

MOST_NODES = 200_000  # keys and values, counted again wherever an alias repeats them
MOST_DIRECTIVES = 64  # libyaml compares each with all before it
MOST_BITS = 256  # of a whole number: Python writes no longer ones in errors
STANDARD = "tag:yaml.org,2002:"
COLLECTION_TAGS = (None, "!", STANDARD + "seq", STANDARD + "map")
TEXT_TAGS = ("!", STANDARD + "str")
READ_TAGS = tuple(STANDARD + name for name in ("null", "bool", "int", "float"))
MERGE = object()
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def from_yaml(data: bytes) -> Any:
    """The value of a YAML text; None where it is empty. Dates are text; keys are text, whatever they look like.

    Raises InputError naming the line.
    """
    composer = _Composer()
    for event in _events(data):
        composer.take(event)
    return composer.root


def with_line(error: InputError, data: bytes) -> InputError:
    """The same complaint with the line of the key that it names, in a text that `from_yaml` has read."""
    line = line_of(data, error.what.removeprefix(UNKNOWN).partition(", ")[0].split("."))
    return error if line is None else moved(error, f"{error.what}, line {line}")


def line_of(data: bytes, keys: Sequence[str]) -> int | None:
    """The line on which that stands which `keys` lead to, or the nearest above it; None where there is none."""
    try:
        node = yaml.compose(data, Loader=LOADER)
    except yaml.YAMLError:  # an anchor twice, which is allowed here
        return None
    line = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            name, node = next(((name, value) for name, value in node.value if name.value == key), (None, None))
        elif isinstance(node, yaml.SequenceNode) and key.isdecimal() and int(key) < len(node.value):
            name = node = node.value[int(key)]
        else:
            break
        line = name.start_mark.line + 1 if name is not None else line
    return line


def _events(data: bytes) -> Iterator[Any]:
    directives = re.findall(rb"(?m)^%", data)
    if len(directives) > MOST_DIRECTIVES:
        raise InputError("YAML", expected=f"at most {MOST_DIRECTIVES} directives", got=len(directives))
    try:
        yield from yaml.parse(data, Loader=LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "something else"
        raise InputError(f"line {mark.line + 1}" if mark else "manifest", expected="YAML", got=reason) from error


class _Open:
    """A list or mapping that is being read. key: what the next value is of; None where a key is due."""

    __slots__ = ("anchor", "before", "height", "key", "merged", "value")

    def __init__(self, value: Any, anchor: str | None, before: int) -> None:
        self.value, self.anchor, self.before = value, anchor, before
        self.key: Any = None
        self.height = 1
        self.merged: list[dict[str, Any]] = []


class _Composer:
    """Takes events, one after another; then `root` is the value."""

    def __init__(self) -> None:
        self.root: Any = None
        self.documents = 0
        self.nodes = 0
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int, int]] = {}  # value, nodes in it, levels in it
        self.scalars = yaml.constructor.SafeConstructor()

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self.open) >= MOST_DEPTH:
                raise too_deep(_line(event))
            if event.tag not in COLLECTION_TAGS:
                _refuse(event, "plain YAML", f"the tag {event.tag}")
            if self._key_due():
                _refuse(event, "a name as key", "a list or mapping")
            value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self.open.append(_Open(value, event.anchor, self.nodes))
            self._count(1, event)
            if event.anchor:
                self.anchors.pop(event.anchor, None)  # until it is whole, there is nothing that an alias could repeat
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self.open.pop()
            for mapping in done.merged:
                for key, value in mapping.items():
                    done.value.setdefault(key, value)
            self._put(done.value, done.anchor, self.nodes - done.before, done.height, event)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                _refuse(event, "one document", "another after ---")

    def _scalar(self, event: Any) -> None:
        self._count(1, event)
        if self._key_due():
            if event.tag is not None and event.tag not in TEXT_TAGS:
                _refuse(event, "plain YAML", f"the tag {event.tag}")
            top, key = self.open[-1], event.value
            if key == "<<" and event.implicit[0]:
                top.key = MERGE
            elif key in top.value:
                _refuse(event, "each key once", f"{key} twice")
            else:
                top.key = key
            if event.anchor:
                self.anchors[event.anchor] = (key, 1, 0)
        else:
            self._put(self._read(event), event.anchor, 1, 0, event)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            _refuse(event, "an alias of something above it that is complete", f"*{event.anchor}")
        value, nodes, height = self.anchors[event.anchor]
        if self._key_due():
            _refuse(event, "a name as key", f"*{event.anchor}")
        if len(self.open) + height > MOST_DEPTH:
            raise too_deep(_line(event))
        self._count(nodes, event)
        self._put(value, None, nodes, height, event)

    def _put(self, value: Any, anchor: str | None, nodes: int, height: int, event: Any) -> None:
        """A value that is whole takes its place."""
        if anchor:
            self.anchors[anchor] = (value, nodes, height)
        if not self.open:
            self.root = value
            return
        top = self.open[-1]
        top.height = max(top.height, height + 1)
        if isinstance(top.value, list):
            top.value.append(value)
            return
        if top.key is MERGE:
            mappings = value if isinstance(value, list) else [value]
            if not all(isinstance(mapping, dict) for mapping in mappings):
                _refuse(event, "a mapping to merge after <<", value)
            top.merged += mappings
        else:
            top.value[top.key] = value
        top.key = None

    def _key_due(self) -> bool:
        return bool(self.open) and self.open[-1].key is None and isinstance(self.open[-1].value, dict)

    def _count(self, nodes: int, event: Any) -> None:
        self.nodes += nodes
        if self.nodes > MOST_NODES:
            raise InputError(_line(event), expected=f"at most {MOST_NODES} keys and values, with what aliases repeat",
                             got="more", hint="A matrix, or a .jsonl file, holds more jobs")  # fmt: skip

    def _read(self, event: Any) -> Any:
        """The value of a scalar: as YAML 1.1 has it, but for dates."""
        tag, text = event.tag, event.value
        if tag is None and event.implicit[0]:
            if text.isdecimal() and text.isascii() and text[0] != "0" and len(text) < 20:
                return int(text)  # as below, faster
            resolvers = yaml.SafeLoader.yaml_implicit_resolvers
            tag = next((name for name, form in resolvers.get(text[:1], ()) if form.match(text)), None)
            if tag not in READ_TAGS:
                return text
        elif tag is None or tag in TEXT_TAGS:
            return text
        if tag not in READ_TAGS:
            _refuse(event, "plain YAML", f"the tag {tag}")
        try:
            value = self.scalars.yaml_constructors[tag](self.scalars, yaml.ScalarNode(tag, text))
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            raise InputError(_line(event), expected=tag.removeprefix(STANDARD), got=text) from error
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            _refuse(event, f"a whole number of at most {MOST_BITS} bits", text)
        return value


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"


def _refuse(event: Any, expected: str, got: object) -> NoReturn:
    raise InputError(_line(event), expected=expected, got=got)

"""Parse untrusted YAML into plain values within fixed bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from curate.errors import InputError, short_repr

# A recipe has a hundred values and a depth of six: the bounds are far above what people write, and far below what
# exhausts memory.
MOST_CHARACTERS = 1 << 18
MOST_VALUES = 20_000
MOST_DEPTH = 50
_MOST_DIGITS = 40
_LONGEST_PROBLEM = 150
_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")
_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
_TAGS = "tag:yaml.org,2002:"
_SCALARS = frozenset(_TAGS + name for name in ("str", "int", "float", "bool", "null"))


class _Reader(yaml.SafeLoader):
    """PyYAML's parser and resolver, with floats as in YAML 1.2."""


class _Dumper(yaml.SafeDumper):
    """Quotes strings that `_Reader` would not read as strings."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Escape the line breaks that only YAML 1.1 knows, which would otherwise be folded."""
        style = '"' if _BREAKS.search(data) else None
        return self.represent_scalar(_TAGS + "str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)

for _kind in (_Reader, _Dumper):
    # YAML 1.1, which PyYAML follows, reads 1e-3 as text; YAML 1.2 and other parsers read a number.
    _kind.add_implicit_resolver(_TAGS + "float", _FLOAT, list("-+.0123456789"))


class _Unreadable(Exception):
    """A fault of a YAML text. line: where it is, from 0."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


@dataclass
class _Open:
    """A mapping or list that is being read.

    key: the key that the next value belongs to. size, depth: number of values and depth so far, itself included.
    """

    value: Any
    anchor: str | None
    key: str | None = None
    size: int = 1
    depth: int = 1


@dataclass
class _Known:
    """The value of an anchor. size, depth: number of values in it and their depth, itself included."""

    value: Any
    size: int
    depth: int


@dataclass
class _Building:
    """The state of a parse: open collections from the outermost in, anchors, and the number of values so far."""

    open: list[_Open] = field(default_factory=list)
    anchors: dict[str, _Known] = field(default_factory=dict)
    total: int = 0
    root: Any = None

    def take(self, value: Any, size: int, depth: int, line: int) -> None:
        """Put a finished value into the innermost open collection, or make it the root."""
        if not self.open:
            self.root = value
            return
        place = self.open[-1]
        place.size += size
        place.depth = max(place.depth, depth + 1)
        if isinstance(place.value, list):
            place.value.append(value)
        elif place.key is None:
            if not isinstance(value, str):
                raise _Unreadable(f"key {short_repr(value)} is not text; put it in quotes", line)
            if value in place.value:
                raise _Unreadable(f"key {short_repr(value)} appears twice", line)
            place.key = value
        else:
            place.value[place.key], place.key = value, None

    def count(self, size: int, depth: int, line: int) -> None:
        """Count values against the bounds. Raises _Unreadable if there are too many, or they are nested too deep."""
        self.total += size
        if self.total > MOST_VALUES:
            raise _Unreadable(f"more than {MOST_VALUES:,} values, those of aliases included", line)
        if len(self.open) + depth > MOST_DEPTH:
            raise _Unreadable(f"nested more than {MOST_DEPTH} deep", line)


def parse_yaml(text: str, name: str) -> Any:
    """Parse a YAML text into a plain value.

    YAML is read event by event, so PyYAML's object constructors are never reached, and the bounds below hold for any
    nesting or aliases. Supported values: mappings with string keys, lists, strings, integers, floats, booleans and
    null. Unlike in YAML 1.1, a date is a string and 1e-3 is a number.

    name: what to call the text in messages. Raises InputError, in one line, for invalid YAML and for more than 262,144
    characters, 20,000 values with aliases expanded, or 50 levels.
    """
    try:
        if len(text) > MOST_CHARACTERS:
            raise _Unreadable(f"more than {MOST_CHARACTERS:,} characters")
        return _value(text)
    # ValueError, OverflowError: from PyYAML, for invalid version numbers and character codes
    except (_Unreadable, yaml.YAMLError, ValueError, OverflowError) as error:
        line = error.line if isinstance(error, _Unreadable) else _line_of(error)
        line_text = f" line {line + 1}" if line is not None else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())[:_LONGEST_PROBLEM]
        raise InputError(f"{name}{line_text}: not readable as plain YAML ({problem})") from error


def _line_of(error: Exception) -> int | None:
    return getattr(getattr(error, "problem_mark", None), "line", None)


def _value(text: str) -> Any:
    """The value of a document, or None for an empty one. Raises _Unreadable and PyYAML's errors."""
    reader, building, documents = _Reader(text), _Building(), 0
    try:
        for event in _events(reader):
            line = event.start_mark.line
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _Unreadable("a second document begins; leave one", line)
            elif isinstance(event, yaml.AliasEvent):
                _alias(event, building, line)
            elif isinstance(event, yaml.ScalarEvent):
                building.count(1, 1, line)
                value = _scalar(reader, event, key=_is_key(building))
                if event.anchor:
                    building.anchors[event.anchor] = _Known(value, 1, 1)
                building.take(value, 1, 1, line)
            elif isinstance(event, yaml.CollectionStartEvent):
                building.count(1, 1, line)
                _check_tag(event, line)
                building.open.append(_Open({} if isinstance(event, yaml.MappingStartEvent) else [], event.anchor))
                if event.anchor:
                    building.anchors.pop(event.anchor, None)  # it refers to this one from here on
            elif isinstance(event, yaml.CollectionEndEvent):
                closed = building.open.pop()
                if closed.anchor:
                    building.anchors[closed.anchor] = _Known(closed.value, closed.size, closed.depth)
                building.take(closed.value, closed.size, closed.depth, line)
    finally:
        reader.dispose()
    return building.root


def _events(reader: _Reader) -> Iterator[Any]:
    while reader.check_event():
        yield reader.get_event()


def _is_key(building: _Building) -> bool:
    """Whether the next scalar is the key of a mapping."""
    return bool(building.open) and isinstance(building.open[-1].value, dict) and building.open[-1].key is None


def _alias(event: Any, building: _Building, line: int) -> None:
    """Take a copy of the anchored value; its size counts again, so that aliases of aliases stay bounded."""
    anchored = building.anchors.get(event.anchor)
    if anchored is None:
        inside = any(collection.anchor == event.anchor for collection in building.open)
        problem = "refers to a node that contains it" if inside else "refers to no earlier anchor"
        raise _Unreadable(f"alias *{event.anchor} {problem}", line)
    building.count(anchored.size, anchored.depth, line)
    building.take(_copied(anchored.value), anchored.size, anchored.depth, line)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _check_tag(event: Any, line: int) -> None:
    kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
    if event.tag not in (None, "!", _TAGS + kind):
        raise _Unreadable(f"the tag {event.tag} is not read; leave it out", line)


def _scalar(reader: _Reader, event: Any, *, key: bool) -> Any:
    """The value of a scalar. key: whether it is the key of a mapping. Raises _Unreadable for unsupported ones."""
    text, line = event.value, event.start_mark.line
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise _Unreadable("a text holds a null character or half a surrogate pair", line)
    if event.tag in ("!", _TAGS + "str"):
        return text
    tag = reader.resolve(yaml.ScalarNode, text, (True, False)) if event.implicit[0] or event.tag else _TAGS + "str"
    if event.tag is not None and event.tag != tag:
        raise _Unreadable(f"the tag {event.tag} is not read; leave it out", line)
    if tag == _TAGS + "merge" and key:
        raise _Unreadable("merge keys (<<) are not read; write the keys out", line)
    if tag not in _SCALARS:  # dates, and what YAML 1.1 has beyond JSON
        return text
    if tag in (_TAGS + "int", _TAGS + "float") and len(text) > _MOST_DIGITS:
        raise _Unreadable(f"a number of more than {_MOST_DIGITS} characters; put it in quotes if it is text", line)
    value = reader.construct_object(yaml.ScalarNode(tag, text))
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise _Unreadable(f"the whole number {text} does not fit 64 bits; put it in quotes if it is text", line)
    return value


def dump_yaml(value: Any) -> str:
    """YAML text that `parse_yaml` turns back into an equal plain value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def file_text(path: Path, most: int) -> str:
    """Read a UTF-8 file. Raises OSError, and ValueError for another encoding or more than `most` bytes."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content.decode("utf-8")

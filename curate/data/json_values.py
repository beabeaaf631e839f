"""Convert JSON values to Arrow columns exactly; values that no plain type holds are kept as JSON text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from curate.data.json_text import Unheld, dumps, encodable, fault_of, items_of, loads, members_of
from curate.data.wording import short
from curate.errors import InputError

# JSON text (extension arrow.json), which `datasets` calls Json and loads as its value.
JSON = pa.json_()
MOST_LEVELS = 48  # Parquet readers open 100 levels, of which a list takes two

_ROWS = 16_384  # converted at a time; does not affect the result
_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d(:\d\d(:\d\d)?)?Z?)?")
_KINDS = {
    bool: "true or false",
    int: "numbers",
    float: "numbers",
    Unheld: "numbers",
    str: "text",
    dict: "objects",
    list: "lists",
}


def is_json(kind: pa.DataType) -> bool:
    """Whether a type is arrow.json, whatever its storage."""
    return isinstance(kind, pa.JsonType)


def holds_json(kind: pa.DataType) -> bool:
    """Whether a type is arrow.json or has it inside."""
    return is_json(kind) or any(holds_json(kind.field(k).type) for k in range(kind.num_fields))


def column_of(
    name: str, values: list[Any], texts: Callable[[], list[str | None]] | None = None
) -> tuple[pa.ChunkedArray, list[str]]:
    """An Arrow column of JSON values (None for null), and a note for each part that is kept as text or JSON.

    texts: returns the JSON text of each value; None = `dumps`.
    The type fits all values. Numbers that neither int64 nor a double holds are kept as text, with their characters.
    Objects with different keys, empty objects and mixed types are JSON, at the level where `datasets` puts it (a
    missing key counts as different, a null value does not); the whole column is JSON if `datasets` would not load its
    parts unchanged.
    Raises InputError for values without a JSON or Arrow type, and for nesting too deep for Parquet.
    """
    notes: list[str] = []
    texts = texts or (lambda: _dumped(name, values))
    reason = _unheld(values) if _kinds(values) == {"numbers"} else None
    if reason is not None:
        return _chunked(texts(), pa.string(), _array), [f"column {name!r} is kept as text: {reason}"]
    kind = _infer(values, name, notes, 0)
    if not holds_json(kind):
        try:
            return _chunked(values, kind, _array), notes
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:  # of values that JSON has not
            raise InputError(f"column {name!r} holds values without a common type ({error}); use one type") from error
    json_texts = texts()
    if kind != JSON and any(fault_of(text) for text in json_texts if text is not None):
        kind = JSON
    return _chunked(json_texts, kind, _array_of_texts), notes


def _kinds(values: Iterable[Any]) -> set[str]:
    return {_KINDS.get(kind, kind.__name__) for kind in set(map(type, values)) - {type(None)}}


def _unheld(values: Iterable[Any]) -> str | None:
    """Why numbers fit neither int64 nor doubles, citing the first that does not; None if they fit."""
    types = set(map(type, values)) - {type(None)}
    if types == {int}:
        value_at_fault = next((value for value in values if value is not None and not -(2**63) <= value < 2**63), None)
        return None if value_at_fault is None else f"{short(str(value_at_fault))} does not fit 64 bits"
    for value in values:
        if isinstance(value, Unheld) or (type(value) is int and abs(value) > 2**53):
            return f"a floating-point number does not hold {short(str(value))}"
    return None


def _infer(values: Sequence[Any], path: str, notes: list[str], level: int) -> pa.DataType:
    """The Arrow type of JSON values. path, notes: for messages. level: nesting depth."""
    if level > MOST_LEVELS:
        raise InputError(f"column {path[:40]!r}... nests more than {MOST_LEVELS} levels deep; flatten it")
    kinds = _kinds(values)
    if not kinds:
        return pa.null()
    if len(kinds) > 1:
        return _as_json(path, notes, f"it mixes {' and '.join(sorted(kinds))}")
    present = [value for value in values if value is not None]
    match kinds.pop():
        case "numbers":
            reason = _unheld(present)
            if reason is not None:
                return _as_json(path, notes, reason)
            return pa.int64() if set(map(type, present)) == {int} else pa.float64()
        case "text":
            return _text_type(present, path, notes)
        case "lists":
            return pa.list_(_infer(list(chain.from_iterable(present)), f"{path}[]", notes, level + 1))
        case "objects":
            return _object_type(present, path, notes, level)
    try:
        return pa.array(present).type
    except (pa.ArrowException, OverflowError) as error:
        raise InputError(
            f"column {path!r} holds {type(present[0]).__name__}, for which Arrow has no type; make it text"
        ) from error


def _as_json(path: str, notes: list[str], reason: str) -> pa.DataType:
    notes.append(f"column {path!r} is kept as JSON: {reason}")
    return JSON


def _object_type(values: Sequence[dict[str, Any]], path: str, notes: list[str], level: int) -> pa.DataType:
    """A struct type of objects with the same keys, else JSON."""
    keys = values[0].keys()
    if any(value.keys() != keys for value in values):
        return _as_json(path, notes, "its objects have different keys")
    if not keys:
        return _as_json(path, notes, "its objects are empty")
    if not encodable(list(keys)):
        return _as_json(path, notes, "a key is not valid UTF-8")
    fields = [(key, _infer([value[key] for value in values], f"{path}.{key}", notes, level + 1)) for key in keys]
    return pa.struct(fields)


def _text_type(values: Sequence[str], path: str, notes: list[str]) -> pa.DataType:
    if not encodable(values):
        return _as_json(path, notes, "it is not valid UTF-8")
    if _DATE.fullmatch(values[0]) and all(map(_DATE.fullmatch, values)):
        notes.append(f"column {path!r} is kept as text, though it looks like dates")
    return pa.string()


def _dumped(name: str, values: Sequence[Any]) -> list[str | None]:
    try:
        return [None if value is None else dumps(value) for value in values]
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"column {name!r} mixes values that JSON does not support ({error}); use one type") from error


# --- arrays ----------------------------------------------------------------------------------------------------


def _chunked(cells: list[Any], kind: pa.DataType, build: Callable[[list[Any], pa.DataType], Any]) -> pa.ChunkedArray:
    chunks = chain.from_iterable(_halved(cells[k : k + _ROWS], kind, build) for k in range(0, len(cells), _ROWS))
    return pa.chunked_array(list(chunks), kind)


def _halved(cells: list[Any], kind: pa.DataType, build: Callable[[list[Any], pa.DataType], Any]) -> Iterator[pa.Array]:
    """The cells as one array, or as several if one would exceed 2 GiB."""
    try:
        array = build(cells, kind)
    except (pa.ArrowCapacityError, _TooLarge):
        array = None
    if isinstance(array, pa.Array):
        yield array
    elif len(cells) == 1:
        raise InputError("a cell holds more than 2 GiB; shorten it")
    else:
        yield from _halved(cells[: len(cells) // 2], kind, build)
        yield from _halved(cells[len(cells) // 2 :], kind, build)


class _TooLarge(Exception):
    pass


def _array(cells: list[Any], kind: pa.DataType) -> pa.Array:
    array = pa.array(cells, kind)
    if not isinstance(array, pa.Array):
        raise _TooLarge
    return array


def _array_of_texts(texts: list[str | None], kind: pa.DataType) -> pa.Array:
    """Array of the values of JSON texts; None and the text null become null."""
    texts = [None if text == "null" else text for text in texts]
    if kind == JSON:
        return pa.ExtensionArray.from_storage(JSON, _array(texts, pa.string()))
    if not holds_json(kind):
        return _array([None if text is None else loads(text) for text in texts], kind)
    missing = pa.array([text is None for text in texts], pa.bool_())
    if pa.types.is_list(kind):
        items = [items_of(text) if text is not None else [] for text in texts]
        offsets = pa.array(np.cumsum([0, *map(len, items)]), pa.int32())
        parts = _array_of_texts(list(chain.from_iterable(items)), kind.value_type)
        return pa.ListArray.from_arrays(offsets, parts, kind, mask=missing)
    members = [members_of(text) if text is not None else {} for text in texts]
    children = [_array_of_texts([member.get(field.name) for member in members], field.type) for field in kind]
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=missing)

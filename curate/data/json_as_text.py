"""Convert JSON columns to JSON text, and conversations in JSON text to lists of messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.column_types import is_any_list
from curate.data.columns import is_text, may_hold_conversations
from curate.data.json_columns import with_json_as
from curate.data.json_text import dumps, value_of
from curate.data.json_values import JSON, holds_json, is_json
from curate.storage.arrow_types import with_children

_FEATURES = b"huggingface"  # key of a schema's metadata under which `datasets` describes columns
_SPEAKERS = ("role", "from", "speaker", "author", "sender")  # keys of a message under which it says who speaks
_LOOKED_AT = 64  # cells that tell whether a column of text may be one of conversations


def json_columns(table: pa.Table) -> list[str]:
    """Names of the columns that hold JSON at any depth."""
    return [field.name for field in table.schema if holds_json(field.type)]


def as_text(table: pa.Table, names: Collection[str]) -> pa.Table:
    """The table with the named columns as text: each cell is the JSON text of its value, or null.

    JSON inside a cell keeps its characters. A column that also holds values without a JSON type, such as timestamps,
    keeps its type, and only the JSON inside it becomes text.
    """
    for k, field in enumerate(table.schema):
        if field.name not in names or is_text(field.type):
            continue
        if _is_written(field.type):
            chunks = [pa.array(json_texts(chunk), pa.large_string()) for chunk in table.column(k).chunks]
            column = pa.chunked_array(chunks, pa.large_string())
        else:
            column = table.column(k).cast(with_json_as(field.type, pa.string()))
        features = _without_feature(table.schema.metadata, field.name)
        table = table.set_column(k, field.with_type(column.type), column).replace_schema_metadata(features)
    return table


def _without_feature(metadata: dict[bytes, bytes] | None, name: str) -> dict[bytes, bytes] | None:
    """A schema's metadata in which the feature of `datasets` for this column is text."""
    try:
        info = json.loads((metadata or {})[_FEATURES])
        info["info"]["features"][name] = {"dtype": "large_string", "_type": "Value"}
    except (ValueError, TypeError, KeyError):
        return metadata
    return {**(metadata or {}), _FEATURES: json.dumps(info).encode()}


def may_be_json(kind: pa.DataType) -> bool:
    """Whether values of a type are objects or lists that can be written as JSON."""
    return (pa.types.is_struct(kind) or is_any_list(kind)) and _is_written(kind)


def as_json(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Convert an array to a type that has JSON where its own has objects or lists, see `may_be_json`."""
    if array.type == kind:
        return array
    if is_json(kind):
        return pa.ExtensionArray.from_storage(JSON, pa.array(json_texts(array), pa.string()))
    missing = array.is_null()
    if pa.types.is_struct(kind):
        children = [as_json(array.field(member.name), member.type) for member in kind]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=missing)
    if not holds_json(kind):
        return array.cast(kind)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    make, width = (pa.LargeListArray, pa.int64()) if pa.types.is_large_list(kind) else (pa.ListArray, pa.int32())
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), width)
    return make.from_arrays(offsets, as_json(pc.list_flatten(array), kind.value_type), kind, mask=missing)


def _is_written(kind: pa.DataType) -> bool:
    """Whether all values of a type can be written as JSON."""
    if is_json(kind) or is_text(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return True
    nested = pa.types.is_struct(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if nested:
        return all(_is_written(kind.field(k).type) for k in range(kind.num_fields))
    return bool(pa.types.is_floating(kind))


def json_texts(array: pa.Array) -> list[str | None]:
    """The JSON text of each of n values; None for null."""
    kind, present = array.type, array.is_valid().to_pylist()
    if is_json(kind):
        return [None if text == "null" else text for text in array.cast(pa.large_string()).to_pylist()]
    if pa.types.is_struct(kind):
        keys = [dumps(field.name) for field in kind]
        parts = [map(_or_null, json_texts(part)) for part in array.flatten()]
        members = zip(*parts, strict=True) if parts else iter([()] * len(array))
        texts = ("{" + ", ".join(map(": ".join, zip(keys, member, strict=True))) + "}" for member in members)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        items = iter(map(_or_null, json_texts(pc.list_flatten(array))))
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_pylist()
        texts = ("[" + ", ".join(next(items) for _ in range(length)) + "]" for length in lengths)
    else:
        return [None if value is None else dumps(value) for value in array.to_pylist()]
    return [text if is_present else None for text, is_present in zip(texts, present, strict=True)]


def _or_null(text: str | None) -> str:
    return "null" if text is None else text


# --- conversations in text ---------------------------------------------------------------------------------------


def with_conversations_opened(table: pa.Table) -> tuple[pa.Table, dict[str, pa.ChunkedArray]]:
    """The table with text columns of JSON conversations converted to JSON, and {name: original column}.

    Conversations are such text in CSV files and in files written with `json.dumps`; libraries without a JSON type
    write lists of texts, one for each message. Lists of fixed size become lists of any size.
    """
    originals: dict[str, pa.ChunkedArray] = {}
    if not may_hold_conversations(table):
        return table, originals
    for k, field in enumerate(table.schema):
        column = table.column(k)
        listed = pa.types.is_list(field.type) or pa.types.is_large_list(field.type)
        if pa.types.is_fixed_size_list(field.type):
            if pa.types.is_nested(field.type.value_type):
                originals[field.name] = column
                column = column.cast(pa.list_(field.type.value_field))
                table = table.set_column(k, field.with_type(column.type), column)
            continue
        if is_text(field.type) and _are_json(column, "[", _is_conversation):
            kind = JSON
        elif listed and is_text(field.type.value_type) and _are_json(_items(column), "{", _is_turn):
            kind = with_children(field.type, lambda item: item.with_type(JSON))
        else:
            continue
        originals[field.name] = column
        parsed = pa.chunked_array([_as_json(chunk, kind) for chunk in column.chunks], kind)
        table = table.set_column(k, field.with_type(kind), parsed)
    return table, originals


def _as_json(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Text as JSON, or lists of text as lists of JSON."""
    if kind == JSON:
        return pa.ExtensionArray.from_storage(JSON, array.cast(pa.string()))
    return array.cast(with_json_as(kind, pa.string())).cast(kind)


def _items(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([pc.list_flatten(chunk) for chunk in column.chunks], column.type.value_type)


def _are_json(column: pa.ChunkedArray, bracket: str, is_one: Callable[[Any], bool]) -> bool:
    """Whether all cells of a text column begin with `bracket`, and `is_one` accepts the first `_LOOKED_AT` values."""
    first = next((cell for cell in _texts(column) if cell), None)
    if first is None or not first.lstrip().startswith(bracket):
        return False
    try:
        begins = pc.starts_with(pc.utf8_ltrim_whitespace(column.cast(pa.large_string()).drop_null()), bracket)
    except (pa.ArrowException, UnicodeDecodeError):
        return False
    if not pc.all(begins).as_py():
        return False
    return all(is_one(value_of(cell)) for cell in islice(_texts(column), _LOOKED_AT) if cell)


def _texts(column: pa.ChunkedArray) -> Iterator[str | None]:
    """The cells one by one; bytes that are not UTF-8 are replaced, which makes the cell invalid JSON."""
    for chunk in column.chunks:
        for low in range(0, len(chunk), _LOOKED_AT):
            raw = chunk.slice(low, _LOOKED_AT).cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
            yield from (None if text is None else text.decode(errors="replace") for text in raw)


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(key), str) for key in _SPEAKERS)


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_turn, value))

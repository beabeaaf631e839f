"""JSON columns (extension arrow.json): convert those that a model reads, and find values that readers would change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.json_text import encodable, fault_of, items_of, value_of
from curate.data.json_values import JSON, holds_json, is_json
from curate.storage.arrow_types import with_children
from curate.types import IntArray

Rows = IntArray


def with_json_opened(
    table: pa.Table,
    rows: IntArray,
    content: Sequence[str],
    notes: Sequence[tuple[str, str]],
) -> tuple[pa.Table, dict[str, dict[int, str]], list[tuple[str, str]]]:
    """Convert JSON columns to usable types; returns the table, {column: {row: fault}} and notes on columns.

    Content becomes text or messages. Other JSON that `datasets` would not load unchanged becomes text.
    rows: (m,) position of each row of `table` in the input. content: the columns that a model reads. notes: earlier
    notes as (column, note).
    """
    odd: dict[str, dict[int, str]] = {}
    lines = list(notes)
    for k, field in enumerate(table.schema):
        if not holds_json(field.type):
            continue
        column = table.column(k)
        faults = json_faults(column, digits=field.name not in content)
        if field.name in content:
            column, unopened = opened(column)
            odd[field.name] = unopened | faults
        elif faults:
            column = column.cast(with_json_as(field.type, pa.string()))
            row, why = next(iter(faults.items()))
            lines.append((field.name, f"column {field.name!r} is kept as text: as JSON, row {rows[row]} {why}"))
        if column.type != field.type:
            table = table.set_column(k, field.with_type(column.type), column)
            if not holds_json(column.type):
                lines = [(name, line) for name, line in lines if name != field.name or "kept as JSON" not in line]
    return table, odd, lines


def with_json_as(kind: pa.DataType, target: pa.DataType) -> pa.DataType:
    """`kind` with arrow.json replaced by `target` at every level; columns can be cast to it."""
    if is_json(kind):
        return target
    return with_children(kind, lambda field: field.with_type(with_json_as(field.type, target)))


def _texts(array: pa.Array) -> list[str | None]:
    """The texts of a JSON array; bytes that are not UTF-8 become lone surrogates, which are reported as a fault."""
    raw = array.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
    return [None if text is None else text.decode(errors="surrogateescape") for text in raw]


def described(table: pa.Table) -> pa.Schema:
    """The schema for recognizing shapes: JSON columns count as text or lists of messages if some cells are."""
    return pa.schema([field.with_type(_content_type(table[field.name])) for field in table.schema])


def _content_type(column: pa.ChunkedArray) -> pa.DataType:
    if is_json(column.type):
        beginnings = Counter((text or "").lstrip()[:1] for chunk in column.chunks for text in _texts(chunk))
        texts, lists = beginnings['"'], beginnings["["]
        return column.type if not texts + lists else pa.string() if texts > lists else pa.list_(JSON)
    return column.type


def opened(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, dict[int, str]]:
    """A content column in its type of `described`, and {row: fault} of the cells that became null.

    JSON strings become text, and JSON lists become lists of JSON; messages themselves are not converted.
    """
    kind = _content_type(column)
    if kind == pa.string() and is_json(column.type):
        return _opened(column, kind, _string)
    if is_json(column.type) and pa.types.is_list(kind):
        lists, odd = _opened(column, pa.list_(pa.string()), _items)
        return lists.cast(kind), odd
    return column, {}


def _opened(
    column: pa.ChunkedArray, kind: pa.DataType, cell_of: Callable[[str], Any]
) -> tuple[pa.ChunkedArray, dict[int, str]]:
    """Convert cells with `cell_of`; returns the column and {row: fault} of cells that became null."""
    chunks: list[pa.Array] = []
    odd: dict[int, str] = {}
    start = 0
    for chunk in column.chunks:
        texts = [None if text == "null" else text for text in _texts(chunk)]
        cells = [None if text is None else cell_of(text) for text in texts]
        for row, (text, cell) in enumerate(zip(texts, cells, strict=True), start):
            if text is not None and cell is None:
                odd[row] = _strange(text, "text" if kind == pa.string() else "a list of messages")
        array = pa.array(cells, kind)
        chunks += array.chunks if isinstance(array, pa.ChunkedArray) else [array]
        start += len(chunk)
    return pa.chunked_array(chunks, kind), odd


def _strange(text: str, expected: str) -> str:
    kinds = {"{": "an object", "[": "a list", "t": "true or false", "f": "true or false", '"': "text"}
    kind = kinds.get(text[:1], "a number")
    if kind == expected:
        return "is not valid UTF-8"
    return f"holds {kind}, {text[:40]}{'...' if len(text) > 40 else ''}, not {expected}"


def _string(text: str) -> str | None:
    value = value_of(text)
    return value if isinstance(value, str) and encodable([value]) else None


def _items(text: str) -> list[str | None] | None:
    if not isinstance(value_of(text), list):
        return None
    return [None if item == "null" else item for item in items_of(text)]


def plain_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """(n,) large strings: the content of JSON strings, and other values as their JSON text."""

    def spoken(text: str | None) -> str | None:
        if text is None or not text.startswith('"'):
            return None if text == "null" else text
        string = _string(text)
        return text if string is None else string

    chunks = [pa.array(map(spoken, _texts(chunk)), pa.large_string()) for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.large_string())


# --- values that `datasets` cannot load --------------------------------------------------------------------------


def json_faults(column: pa.ChunkedArray, digits: bool = True) -> dict[int, str]:
    """{row: reason} for JSON, at any depth, that `datasets` would not load unchanged; see `fault_of`."""
    faults: dict[int, str] = {}
    start = 0
    for chunk in column.chunks:
        for rows, texts in _leaves(chunk, np.arange(start, start + len(chunk))):
            for row, text in zip(rows.tolist(), texts, strict=True):
                reason = None if text is None else fault_of(text, digits)
                if reason is not None:
                    faults.setdefault(row, reason)
        start += len(chunk)
    return faults


def _leaves(array: pa.Array, rows: Rows) -> Iterator[tuple[Rows, list[str | None]]]:
    """(row numbers, texts) of every JSON array inside an array of m values. rows: (m,) row number of each value."""
    kind = array.type
    if is_json(kind):
        yield rows, _texts(array)
    elif not holds_json(kind):
        return
    elif pa.types.is_struct(kind):
        for part in array.flatten():
            yield from _leaves(part, rows)
    else:
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        yield from _leaves(pc.list_flatten(array), np.repeat(rows, lengths))

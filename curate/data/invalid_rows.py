"""Detect unusable rows and leave them out before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.column_names import OPTIONAL_CONTENT
from curate.data.columns import content_roles, is_text
from curate.data.row_store import rows_of
from curate.errors import InputError
from curate.types import BoolArray, IntArray

_SHOWN_CHARACTERS = 200
_Mask = BoolArray


@dataclass(frozen=True)
class BadRow:
    """An unusable row. row: position in the table. column: of the cell at fault. reason: continues "column 'x'"."""

    row: int
    column: str
    reason: str


def _bad_rows(
    table: pa.Table, shape: str, columns: Mapping[str, str], odd: Mapping[str, Mapping[int, str]]
) -> list[BadRow]:
    """One BadRow for every unusable row, ascending; the first fault in column order counts.

    A row is unusable if a required cell is null or any cell is not UTF-8; an empty string is fine.
    odd: {column: {row: reason}} of faults that were detected before, such as a conversation without an assistant turn.
    """
    faults: dict[int, BadRow] = {}

    def mark(name: str, mask: _Mask, reason: str) -> None:
        for row in np.flatnonzero(mask).tolist():
            faults.setdefault(row, BadRow(row, name, reason))

    for role in content_roles(shape, columns):
        name = columns[role]
        for row, reason in odd.get(name, {}).items():
            faults.setdefault(row, BadRow(row, name, reason))
        nulls = pc.is_null(table[name]).to_numpy()
        if role not in OPTIONAL_CONTENT:
            mark(name, nulls, "is null")
    for name in table.column_names:
        mark(name, not_utf8(table[name]), "is not valid UTF-8")
    return [faults[row] for row in sorted(faults)]


def not_utf8(column: pa.ChunkedArray) -> _Mask:
    """(n,) whether text in a cell, at any depth, is not UTF-8."""
    parts = [np.zeros(0, np.bool_)]
    for chunk in column.chunks:
        mask = np.zeros(len(chunk), np.bool_)
        mask[list(_invalid(chunk, 0))] = True
        parts.append(mask)
    return np.concatenate(parts)


def _invalid(array: pa.Array, start: int) -> Iterator[int]:
    """Positions of invalid cells, by bisection, so that a valid array costs one pass. start: position of the array."""
    try:
        array.validate(full=True)
        return
    except pa.ArrowInvalid:
        if len(array) == 1:
            yield start
            return
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    half = len(array) // 2
    for low, high in ((0, half), (half, len(array))):
        part = array.slice(low, high - low)
        # Copied, since the check of a slice of lists looks at the items of all of them.
        yield from _invalid(pa.concat_arrays([part]) if pa.types.is_nested(part.type) else part, start + low)


def without_bad_rows(
    table: pa.Table,
    rows: IntArray,
    shape: str,
    columns: Mapping[str, str],
    odd: Mapping[str, Mapping[int, str]],
    on_bad_row: str,
) -> tuple[pa.Table, IntArray, list[dict[str, Any]]]:
    """The usable rows, their positions in the input, and records of the others.

    rows: (m,) position of each row of `table` in the input. odd: see `_bad_rows`. on_bad_row: "drop" leaves bad rows
    out; "error" raises InputError for the first.
    """
    _check_answers(table, shape, columns)
    bad = _bad_rows(table, shape, columns, odd)
    if not bad:
        return table, rows, []
    first = bad[0]
    if on_bad_row == "error":
        more = f" ({len(bad) - 1:,} more bad rows)" if len(bad) > 1 else ""
        role = "output" if shape == "instruction" else "completion"
        answers = first.column == columns.get(role) != "final_answer" and "final_answer" in table.column_names
        raise InputError(
            f"row {rows[first.row]} (counted from 0 in the input): column {first.column!r} {first.reason}{more}; "
            "fix the data, or leave such rows out with --on-bad-row drop"
            + (f", or train on the final answers with --columns {role}=final_answer" if answers else "")
        )
    if len(bad) == len(table):
        raise InputError(
            f"no usable row is left: e.g. row {rows[first.row]}, column {first.column!r} {first.reason}; fix the data"
        )
    rejected = [_rejected_record(table, fault, shape, columns, int(rows[fault.row])) for fault in bad]
    positions = np.delete(np.arange(len(table)), [fault.row for fault in bad])
    return _with_words_in_use(rows_of(table, positions)), rows[positions], rejected


def _with_words_in_use(table: pa.Table) -> pa.Table:
    """The table with its dictionaries rebuilt: unused values may be those of dropped rows, and not UTF-8."""
    for k, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            chunks = [chunk.dictionary_decode().dictionary_encode().cast(field.type) for chunk in table[k].chunks]
            table = table.set_column(k, field, pa.chunked_array(chunks, field.type))
    return table


def _check_answers(table: pa.Table, shape: str, columns: Mapping[str, str]) -> None:
    """Raise InputError if all completions are null but there is a column of final answers."""
    role = "output" if shape == "instruction" else "completion"
    name = columns.get(role)
    if name is not None and table[name].null_count == len(table) and "final_answer" in table.column_names:
        raise InputError(
            f"column {name!r} is null in every row; to train on the final answers, pass --columns {role}=final_answer"
        )


def _rejected_record(table: pa.Table, bad: BadRow, shape: str, columns: Mapping[str, str], row: int) -> dict[str, Any]:
    """Record of a row that is left out when reading. row: its position in the input."""
    content = {}
    for role in content_roles(shape, columns):
        content[columns[role]] = _short(_cell(table[columns[role]].slice(bad.row, 1)))
    return {
        "row": row,
        "example_id": None,
        "stage": "read",
        "reason": f"column {bad.column!r} {bad.reason}",
        "content": json.dumps(content, ensure_ascii=False),
    }


def _cell(cell: pa.ChunkedArray) -> Any:
    try:
        return cell.to_pylist()[0]
    except UnicodeDecodeError:
        if is_text(cell.type):
            return cell.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()[0].decode(errors="replace")
        return "(not UTF-8)"


def _short(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > _SHOWN_CHARACTERS:
        return text[:_SHOWN_CHARACTERS] + "..."
    return value if isinstance(value, str) or value is None else text


_REJECTED = pa.schema(
    [
        ("row", pa.int64()),
        ("example_id", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("content", pa.string()),
    ]
)


def rejected_table(records: list[dict[str, Any]]) -> pa.Table:
    """Records of dropped rows in the schema of tables/rejected.parquet."""
    return pa.Table.from_pylist([{name: record.get(name) for name in _REJECTED.names} for record in records], _REJECTED)

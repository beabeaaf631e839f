"""Rows that cannot be used, found before anything is computed from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.messages import is_messages, is_text, turns
from curate.shapes import content_roles

__all__ = ["BadRow", "bad_rows", "rejected_record"]

_SHOWN_CHARACTERS = 200
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class BadRow:
    """row: position in the table given; column: the cell at fault; reason: reads on from "column 'x'"."""

    row: int
    column: str
    reason: str


def bad_rows(
    table: pa.Table, shape: str, columns: Mapping[str, str], odd: Mapping[str, Mapping[int, Any]]
) -> list[BadRow]:
    """One BadRow for every unusable row, ascending; the first fault in column order counts.

    A needed cell is null, not a string or not UTF-8; a conversation is empty, has a message without role or
    content, or no assistant turn. An empty string is no fault.
    odd: {column: {row: value}} of cells that Arrow could not hold as text; they are null in the table.
    """
    found: dict[int, BadRow] = {}

    def mark(name: str, mask: Mask, reason: str) -> None:
        for row in np.flatnonzero(mask).tolist():
            found.setdefault(row, BadRow(row, name, reason))

    for role in content_roles(shape, columns):
        name = columns[role]
        strange = odd.get(name, {})
        for row, value in strange.items():
            found.setdefault(row, BadRow(row, name, _strange(value)))
        nulls = pc.is_null(table[name]).to_numpy()
        if role != "input":
            mark(name, nulls, "is null")
        if is_messages(table.schema.field(name).type):
            for mask, reason in _conversation_faults(table[name], answered=role != "prompt"):
                mark(name, mask & ~nulls, reason)
        else:
            mark(name, not_utf8(table[name]), "is not valid UTF-8")
    for role in ("id", "source", "final_answer"):
        if role in columns and is_text(table.schema.field(columns[role]).type):
            mark(columns[role], not_utf8(table[columns[role]]), "is not valid UTF-8")
    return [found[row] for row in sorted(found)]


def _strange(value: Any) -> str:
    if isinstance(value, str):
        return "is not valid UTF-8"
    shown = repr(value)
    return f"holds {type(value).__name__} {shown[:40]}{'...' if len(shown) > 40 else ''}, not text"


def not_utf8(column: pa.ChunkedArray) -> Mask:
    """(n,) true where the bytes of a text cell are not UTF-8."""
    parts = [np.zeros(0, np.bool_)]
    for chunk in column.chunks:
        mask = np.zeros(len(chunk), np.bool_)
        if not pa.types.is_null(chunk.type):
            mask[list(_invalid(chunk.cast(pa.large_string()), 0))] = True
        parts.append(mask)
    return np.concatenate(parts)


def _invalid(array: pa.Array, start: int) -> Iterator[int]:
    """Positions of invalid strings; halving, so that a clean array costs one pass."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        if len(array) == 1:
            yield start
        else:
            half = len(array) // 2
            yield from _invalid(array.slice(0, half), start)
            yield from _invalid(array.slice(half), start + half)


def _conversation_faults(column: pa.ChunkedArray, answered: bool) -> Iterator[tuple[Mask, str]]:
    empty, nameless, silent, garbled, unanswered = ([np.zeros(0, np.bool_)] for _ in range(5))
    for chunk in column.chunks:
        offsets, roles, contents = turns(chunk)
        n = len(chunk)
        rows = np.repeat(np.arange(n), np.diff(offsets))

        def any_turn(mask: Mask, rows: npt.NDArray[Any] = rows, n: int = n) -> Mask:
            return np.bincount(rows[mask], minlength=n) > 0

        empty.append(np.diff(offsets) == 0)
        nameless.append(any_turn(pc.is_null(roles).to_numpy(zero_copy_only=False)))
        silent.append(any_turn(pc.is_null(contents).to_numpy(zero_copy_only=False)))
        garbled.append(any_turn(not_utf8(pa.chunked_array([roles])) | not_utf8(pa.chunked_array([contents]))))
        assistant = pc.fill_null(pc.equal(roles, "assistant"), False).to_numpy(zero_copy_only=False)
        unanswered.append(~any_turn(assistant) if answered else np.zeros(n, np.bool_))
    yield np.concatenate(empty), "has no messages"
    yield np.concatenate(nameless), "has a message without a role"
    yield np.concatenate(silent), "has a message without content"
    yield np.concatenate(garbled), "is not valid UTF-8"
    yield np.concatenate(unanswered), "has no assistant turn"


def rejected_record(table: pa.Table, bad: BadRow, shape: str, columns: Mapping[str, str], row: int) -> dict[str, Any]:
    """What is kept of a row that is left out at reading; `row`: its position in the input as read."""
    shown = {}
    for role in content_roles(shape, columns):
        shown[columns[role]] = _short(_cell(table[columns[role]].slice(bad.row, 1)))
    return {
        "row": row,
        "example_id": None,
        "stage": "read",
        "reason": f"column {bad.column!r} {bad.reason}",
        "content": json.dumps(shown, ensure_ascii=False),
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

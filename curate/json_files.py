"""JSON Lines and JSON files as Arrow tables: fast where the fast parser is right, and right everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError
from curate.json_scan import TooDeep, long_integers, plain_rows
from curate.json_text import RepeatedKey, encodable, items_of, loads, loads_from, members_of
from curate.json_values import MOST_LEVELS, column_of
from curate.text_files import Read, block_size, file_bytes

__all__ = ["read_json"]

_BLANKS = " \t\r\n"


def read_json(paths: Sequence[Path]) -> Read:
    """Rows of one object per line, or of a list of objects; types are those that fit the rows of all files.

    Raises InputError naming the line or item at fault.
    """
    files = [(path, file_bytes(path)) for path in paths]
    tables: list[pa.Table] = []
    dated: dict[str, None] = {}
    for path, data in files:
        rows = _plain_rows(path, data)
        found = None if rows is None else _fast(data, rows)
        if found is None:
            break
        tables.append(found[0])
        dated |= found[1]
    if len(tables) == len(files) and _joinable(tables):
        table = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")
        return Read(table, [(name, f"column {name!r} is kept as text, though it looks like dates") for name in dated])
    return _exact(files)


def _joinable(tables: Sequence[pa.Table]) -> bool:
    """Whether a column has one type in all tables that have it, but for columns that are null throughout."""
    known: dict[str, pa.DataType] = {}
    for table in tables:
        for field in table.schema:
            if not pa.types.is_null(field.type) and known.setdefault(field.name, field.type) != field.type:
                return False
    return True


# --- the fast parser -------------------------------------------------------------------------------------------


def _plain_rows(path: Path, data: pa.Buffer) -> int | None:
    head = data.slice(0, min(4096, data.size)).to_pybytes().lstrip()
    if not head:
        raise InputError(f"{path} is empty; give a file with at least one row")
    levels = MOST_LEVELS + head.startswith(b"[")
    try:
        return plain_rows(np.frombuffer(data, np.uint8), levels)
    except TooDeep as error:
        before = data.slice(0, error.place).to_pybytes()
        line, column = before.count(b"\n") + 1, len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        raise InputError(
            f"{path}, line {line}, column {column}: lists and objects nest more than {MOST_LEVELS} levels deep, which "
            "readers of Parquet refuse; flatten them, or write them as text"
        ) from None


def _fast(data: pa.Buffer, rows: int) -> tuple[pa.Table, dict[str, None]] | None:
    """The table that pyarrow reads, and the columns in which it took text for dates; None where it is not right."""
    import pyarrow.json as pj

    options = pj.ReadOptions(block_size=block_size(data))
    try:
        table = pj.read_json(pa.BufferReader(data), read_options=options)
        dated = [field.name for field in table.schema if _undated(field.type) != field.type]
        if dated:
            schema = pa.schema([field.with_type(_undated(field.type)) for field in table.schema])
            parse = pj.ParseOptions(explicit_schema=schema)
            table = pj.read_json(pa.BufferReader(data), read_options=options, parse_options=parse)
        table.validate(full=True)
    except pa.ArrowInvalid:
        return None
    if table.num_rows != rows or not all(_certain(chunk) for column in table.columns for chunk in column.chunks):
        return None
    if any(_holds_doubles(field.type) for field in table.schema):
        held = sum(_long_integers(chunk) for column in table.columns for chunk in column.chunks)
        if long_integers(np.frombuffer(data, np.uint8)) != held:
            return None
    return table, dict.fromkeys(dated)


def _undated(kind: pa.DataType) -> pa.DataType:
    """The type with strings where a parser took text for a point in time: the text is the data."""
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_undated(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([child.with_type(_undated(child.type)) for child in kind])
    return kind


def _holds_doubles(kind: pa.DataType) -> bool:
    return pa.types.is_float64(kind) or any(_holds_doubles(kind.field(k).type) for k in range(kind.num_fields))


def _certain(array: pa.Array) -> bool:
    """Whether the values can be no other than those of the file: no key was added, no number was cut."""
    if pa.types.is_struct(array.type):
        parts = array.flatten()
        return bool(parts) and all(part.null_count == array.null_count and _certain(part) for part in parts)
    if pa.types.is_list(array.type):
        return _certain(pc.list_flatten(array))
    if pa.types.is_float64(array.type):  # the parser knows more names of infinity than JSON
        return bool(np.isfinite(array.drop_null().to_numpy(zero_copy_only=False)).all())
    return True


def _long_integers(array: pa.Array) -> int:
    """How many integers of the array lie beyond 2^53."""
    if pa.types.is_int64(array.type):
        numbers = array.drop_null().to_numpy()
        return int(((numbers > 2**53) | (numbers < -(2**53))).sum())
    if pa.types.is_struct(array.type):
        return sum(map(_long_integers, array.flatten()))
    return _long_integers(pc.list_flatten(array)) if pa.types.is_list(array.type) else 0


# --- the exact parser ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """records: the objects of a file. texts: gives the text of each."""

    records: list[dict[str, Any]]
    texts: Callable[[], list[str]]


def _exact(files: Sequence[tuple[Path, pa.Buffer]]) -> Read:
    parts = [_rows(path, data.to_pybytes().decode()) for path, data in files]
    records = [record for part in parts for record in part.records]
    names = list(dict.fromkeys(name for record in records for name in record))
    if not encodable(names):
        raise InputError(f"{files[0][0]}: the name of a column is not valid UTF-8; rename it")

    @cache
    def members() -> list[dict[str, str]]:
        return [members_of(text) for part in parts for text in part.texts()]

    def texts(name: str) -> list[str | None]:
        found = (row.get(name) for row in members())
        return [None if text == "null" else text for text in found]

    columns, notes = [], []
    for name in names:
        column, lines = column_of(name, [record.get(name) for record in records], partial(texts, name))
        columns.append(column)
        notes += [(name, line) for line in lines]
    return Read(pa.table(columns, names=names), notes)


def _rows(path: Path, text: str) -> _Rows:
    try:
        return _list(path, text) if text.lstrip().startswith("[") else _lines(path, text)
    except RecursionError:
        raise InputError(f"{path} nests more than {MOST_LEVELS} levels deep; flatten it") from None


def _list(path: Path, text: str) -> _Rows:
    try:
        records = loads(text.strip(_BLANKS))
    except RepeatedKey as error:
        raise InputError(f"{path}: {error} in one object; remove one of them") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); write a list of objects, or one object per line") from error
    for row, record in enumerate(records):
        _check_object(record, f"{path}, item {row}")
    return _Rows(records, lambda: items_of(text))


def _check_object(record: Any, place: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{place}: holds {type(record).__name__}, not an object; write {{...}}")


def _lines(path: Path, text: str) -> _Rows:
    records: list[dict[str, Any]] = []
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip(_BLANKS):
            continue
        try:
            record = loads(line)
        except RepeatedKey as error:
            raise InputError(f"{path}, line {number}: {error}; remove one of them") from error
        except ValueError as error:
            spread = None if records else _spread(path, text)
            if spread is not None:
                return spread
            raise InputError(f"{path}, line {number}: not JSON ({error}); write one object per line") from error
        _check_object(record, f"{path}, line {number}")
        records.append(record)
        lines.append(line)
    return _Rows(records, lambda: lines)


def _spread(path: Path, text: str) -> _Rows | None:
    """The rows of a text that writes its objects over several lines; None where it does not."""
    records: list[dict[str, Any]] = []
    places = [0]
    try:
        while places[-1] < len(text):
            record, place = loads_from(text, places[-1])
            _check_object(record, f"{path}, item {len(records)}")
            records.append(record)
            places.append(place)
    except RepeatedKey as error:
        raise InputError(f"{path}, item {len(records)}: {error}; remove one of them") from error
    except ValueError:
        return None
    return _Rows(records, lambda: [text[low:high] for low, high in pairwise(places)])

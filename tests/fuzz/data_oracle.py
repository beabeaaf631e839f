"""Whether curated data holds what a generated dataset does: every cell, by its value, its characters or its type."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.arrow_strategies import cells_of
from tests.fuzz.data_strategies import MISSING, Case, Real

__all__ = ["cut_fault", "faults", "generator_fault", "load_faults"]

_MARK = re.compile(r"§(\d+)§(?!.*§\d+§)", re.DOTALL)
_JSON = pa.json_()


def faults(case: Case, folder: Path, notes: list[str]) -> list[str]:
    """What is wrong with the data in a folder that curation wrote; empty where nothing is."""
    table = pq.ParquetDataset(folder / "data").read()
    table.validate(full=True)
    origins = [_mark_in(cell) for cell in _values(table[case.key])]
    originals = [k for k, origin in enumerate(table["origin"].to_pylist()) if origin == "original"]
    if sorted(origins[k] for k in originals) != list(range(len(case.rows))):
        return [f"originals are of rows {[origins[k] for k in originals]}"]
    ids = table["example_id"].to_pylist()
    sources = {origins[k]: ids[k] for k in originals}
    if [sources[origin] for origin in origins] != table["source_id"].to_pylist():
        return ["a copy does not name its row as its source"]
    found = []
    names = list(case.rows[0])
    if table.column_names[: len(names)] != _in_order(case, table.column_names[: len(names)]):
        found.append(f"columns are {table.column_names[: len(names)]}, not {names}")
        return found
    check = {"json": _json_fault, "csv": _csv_fault, "arrow": _arrow_fault}[case.kind]
    for name in names:
        column = table[name]
        fault = check(case, name, column, origins)
        if fault is None and _has_become_text(case, name, column.type) and not _named(name, notes):
            fault = f"{column.type}, and no note names it: {notes}"
        if fault:
            found.append(f"column {name!r}: {fault}")
    return found


def cut_fault(case: Case, folder: Path) -> str | None:
    """Where rows made of a file whose end is missing are not the first ones of the dataset, the last one aside."""
    table = pq.ParquetDataset(folder / "data").read()
    marks = [_mark_in(cell) for cell in _values(table[case.key])]
    rows = sorted(set(marks))
    return None if rows == list(range(len(rows))) else f"rows {rows} are left of a file that was cut"


def _in_order(case: Case, names: list[str]) -> list[str]:
    """Columns as they must come: of JSON in any order, since an object has none."""
    if case.kind == "json":
        return names if sorted(names) == sorted(case.rows[0]) else list(case.rows[0])
    return list(case.rows[0])


def _mark_in(cell: Any) -> int:
    """Row of the input that a content cell is of."""
    if isinstance(cell, list):
        cell = cell[0].get("content") or cell[0]["value"]
    found = _MARK.search(cell)
    assert found is not None, cell
    return int(found[1])


def _named(name: str, notes: Iterable[str]) -> bool:
    """Whether a note names the column, as it is or as a terminal may see it."""
    return any(shown in note for note in notes for shown in (name, repr(name)))


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


# --- JSON --------------------------------------------------------------------------------------------------------


def plain_type(cells: Iterable[Any]) -> pa.DataType | None:
    """Type that loses nothing of these JSON values and is the one they have for everybody; None if there is none."""
    held = [cell for cell in cells if cell is not None and cell is not MISSING]
    if any(isinstance(cell, Real) and not cell.held for cell in held):
        return None
    kinds = {type(cell) for cell in held}
    if not held:
        return pa.null()
    if kinds == {int, Real}:
        return pa.float64() if all(abs(cell) <= 2**53 for cell in held if isinstance(cell, int)) else None
    if len(kinds) > 1:
        return None
    if kinds == {int}:
        return pa.int64() if all(-(2**63) <= cell < 2**63 for cell in held) else None
    if kinds == {list}:
        inner = plain_type(each for cell in held for each in cell)
        return inner and pa.list_(inner)
    if kinds == {dict}:
        keys = held[0].keys()
        if not keys or any(cell.keys() != keys for cell in held):
            return None
        members = {key: plain_type(cell[key] for cell in held) for key in keys}
        return None if None in members.values() else pa.struct(list(members.items()))
    return {bool: pa.bool_(), str: pa.string(), Real: pa.float64()}[kinds.pop()]


def _same_type(kind: pa.DataType, plain: pa.DataType) -> bool:
    """Whether types are equal up to the width of offsets and the order of keys."""
    if pa.types.is_struct(plain):
        return (
            pa.types.is_struct(kind)
            and sorted(kind.names) == sorted(plain.names)
            and all(_same_type(kind.field(name).type, plain.field(name).type) for name in plain.names)
        )
    if pa.types.is_list(plain):
        return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _same_type(
            kind.value_type, plain.value_type
        )
    return kind == plain or (_is_text(kind) and _is_text(plain))


def _json_fault(case: Case, name: str, column: pa.ChunkedArray, origins: list[int]) -> str | None:
    cells = [None if row[name] is MISSING else row[name] for row in case.rows]
    plain = plain_type(cells)
    if plain is not None and not _same_type(column.type, plain):
        return f"type is {column.type}, not {plain}"
    right = _equal if plain is not None else _same
    for value, origin in zip(_values(column), origins, strict=True):
        if not right(value, cells[origin]):
            return f"row {origin} holds {value!r} ({column.type}), not {case.raw[name][origin]}"
    return None


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Cells as JSON values, with what columns of JSON text say in place of it, at every level."""
    return [_opened(value, column.type) for value in column.to_pylist()]


def _opened(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if kind == _JSON:
        return _loads(value)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return [_opened(each, kind.value_type) for each in value]
    if pa.types.is_struct(kind):
        return {field.name: _opened(value[field.name], field.type) for field in kind}
    return value


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=Real, parse_constant=Real)


def _equal(value: Any, cell: Any) -> bool:
    """Whether two JSON values are the same, numbers by kind; an integer may be one of floats that equals it."""
    if isinstance(cell, Real) and not cell.held:
        return value == cell
    if isinstance(cell, Real):
        number = float(value.text) if isinstance(value, Real) else value
        return isinstance(number, float) and repr(number) == repr(float(cell.text))
    if isinstance(cell, list):
        return isinstance(value, list) and len(value) == len(cell) and all(map(_equal, value, cell))
    if isinstance(cell, dict):
        return isinstance(value, dict) and value.keys() == cell.keys() and all(_equal(value[k], cell[k]) for k in cell)
    return (type(value) is type(cell) or (type(cell) is int and type(value) is float)) and bool(value == cell)


def _near(value: Any, cell: Any) -> bool:
    """As `_equal`, but for the last digits of floats, which datasets rounds where it opens JSON (with ujson)."""
    if isinstance(cell, Real):
        return isinstance(value, float) and math.isclose(value, float(cell.text), rel_tol=1e-14, abs_tol=1e-300)
    if isinstance(cell, list):
        return isinstance(value, list) and len(value) == len(cell) and all(map(_near, value, cell))
    if isinstance(cell, dict):
        return isinstance(value, dict) and value.keys() == cell.keys() and all(_near(value[k], cell[k]) for k in cell)
    return _equal(value, cell)


def _same(value: Any, cell: Any) -> bool:
    """As `_equal`, where text may stand for what it says in JSON."""
    if isinstance(value, list) and isinstance(cell, list):
        return len(value) == len(cell) and all(map(_same, value, cell))
    if isinstance(value, dict) and isinstance(cell, dict):
        return value.keys() == cell.keys() and all(_same(value[k], cell[k]) for k in cell)
    return _equal(value, cell) or (isinstance(value, str) and _said(value, cell))


def _said(text: str, cell: Any) -> bool:
    try:
        return _equal(_loads(text), cell)
    except ValueError:
        return False


_LIKE_A_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def _has_become_text(case: Case, name: str, kind: pa.DataType) -> bool:
    """Whether a column is text that datasets would have taken for something else."""
    cells = [row[name] for row in case.rows]
    if case.kind == "json":
        return _is_text(kind) and plain_type(cells) is None
    filled = [cell for cell in cells if cell]
    return (
        case.kind == "csv"
        and _is_text(kind)
        and name not in _TEXT_ROLES
        and bool(filled)
        and all(map(_LIKE_A_NUMBER.fullmatch, filled))
    )


# --- CSV ---------------------------------------------------------------------------------------------------------

_TEXT_ROLES = {"prompt", "completion", "question", "answer", "instruction", "output", "text"}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]*)?(?<=[0-9.])([eE][+-]?[0-9]+)?|-?inf(inity)?", re.IGNORECASE)


def _csv_fault(case: Case, name: str, column: pa.ChunkedArray, origins: list[int]) -> str | None:
    allowed = _csv_types(name, [row[name] for row in case.rows])
    if allowed is not None and not any(_same_type(column.type, each) for each in allowed):
        return f"type is {column.type}, not {' or '.join(map(str, allowed))}"
    for value, origin in zip(column.to_pylist(), origins, strict=True):
        cell = case.rows[origin][name]
        if not _reads_as(value, cell):
            return f"row {origin} holds {value!r} ({column.type}), not {cell!r}"
    return None


def _csv_types(name: str, cells: list[str]) -> list[pa.DataType] | None:
    """Types that a column of these characters may have; None for any that keeps the values."""
    filled = [cell for cell in cells if cell]
    if name in _TEXT_ROLES:
        return [pa.string()]
    if not filled or any(cell != cell.strip() or "inf" in cell.lower() for cell in filled):
        return None
    if all(cell in ("true", "false") for cell in filled) or all(cell in ("True", "False") for cell in filled):
        return [pa.bool_()]
    if all(map(_INTEGER.fullmatch, filled)):
        if not all(-(2**63) <= int(cell) < 2**63 for cell in filled):
            return [pa.string()]
        return [pa.int64(), pa.float64()] if len(filled) < len(cells) else [pa.int64()]
    if all(map(_NUMBER.fullmatch, filled)) and all(map(_is_float, filled)):
        return [pa.float64()] if all(abs(float(cell)) <= 2**53 for cell in filled if _INTEGER.fullmatch(cell)) else None
    return None


def _is_float(cell: str) -> bool:
    """Whether a double holds the number that these characters are."""
    return float(cell) == int(cell) if _INTEGER.fullmatch(cell) else math.isfinite(float(cell))


def _reads_as(value: Any, cell: str) -> bool:
    """Whether a value says what the characters of a CSV cell do."""
    if value is None:
        return cell == ""
    if isinstance(value, bool):
        return str(value).lower() == cell.lower()
    if isinstance(value, int):
        return _INTEGER.fullmatch(cell.strip()) is not None and value == int(cell)
    if isinstance(value, float):
        number = _NUMBER.fullmatch(cell.strip())
        return number is not None and repr(value) == repr(float(cell)) and (math.isinf(value) or _is_float(cell))
    return bool(value == cell)


# --- Parquet and Arrow -------------------------------------------------------------------------------------------


def _arrow_fault(case: Case, name: str, column: pa.ChunkedArray, origins: list[int]) -> str | None:
    expected = _stored_type(case, name)
    if expected is not None and _unsized(column.type) != _unsized(expected):
        return f"type is {column.type}, not {expected}"
    for value, origin in zip(cells_of(column), origins, strict=True):
        if value != case.rows[origin][name]:
            kind = case.tables[name].type
            return f"row {origin} holds {value!r} ({column.type}), not {case.rows[origin][name]!r} ({kind})"
    return None


def _unsized(kind: pa.DataType) -> str:
    """A type without the widths of its offsets, which no value depends on."""
    return str(kind).replace("large_", "").replace("_view", "")


def _stored_type(case: Case, name: str) -> pa.DataType | None:
    """Type that a column has in every Parquet file; None if it has none there, or one that datasets cannot hold."""
    if _holds_json(case.tables[name].type):
        return None  # text that is not JSON, or that datasets does not open, may become a column of text
    types = set()
    for file, content in case.files.items():
        if not file.endswith(".parquet"):
            sink = io.BytesIO()
            try:
                pq.write_table(case.tables.select([name]), sink)
            except pa.ArrowException:
                return None
            content = sink.getvalue()
        types.add(pq.read_schema(pa.BufferReader(content)).field(name).type)
    kind = types.pop()
    return kind if not types and _known_to_datasets(kind) else None


def _holds_json(kind: pa.DataType) -> bool:
    return "arrow.json" in str(kind)


@cache
def _known_to_datasets(kind: pa.DataType) -> bool:
    try:
        return datasets.Features.from_arrow_schema(pa.schema({"x": kind})).arrow_schema is not None
    except (ValueError, TypeError):
        return False


# --- what the standard library reads -----------------------------------------------------------------------------


def generator_fault(case: Case) -> str | None:
    """Where the files of a dataset do not hold its rows by `json.loads` and `csv.reader`."""
    if case.kind == "arrow":
        return None
    found: list[dict[str, Any]] = []
    for name, content in case.files.items():
        text = (gzip.decompress(content) if name.endswith(".gz") else content).decode("utf-8-sig")
        if case.kind == "csv":
            header, *lines = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if ".tsv" in name else ",")
            found += [dict(zip(header, line, strict=True)) for line in lines]
        elif text.startswith("["):
            found += _loads(text)
        else:
            found += [_loads(line) for line in text.split("\n") if line.strip()]
    rows = [{name: cell for name, cell in row.items() if cell is not MISSING} for row in case.rows]
    return None if len(found) == len(rows) and all(map(_equal, found, rows)) else f"files hold {found}, rows {rows}"


# --- what datasets reads -----------------------------------------------------------------------------------------


def load_faults(case: Case, folder: Path, load: Callable[[Path], Any]) -> list[str]:
    """What `datasets.load_dataset` makes of the folder that differs from the Parquet files in it."""
    table = pq.ParquetDataset(folder / "data").read()
    try:
        dataset = load(folder)
        loaded = dataset.with_format("arrow")[:]
        opened = {name: dataset[name][:] for name in case.rows[0] if _holds_json(table[name].type)}
    except Exception as error:
        return [f"load_dataset: {type(error).__name__}: {error.__cause__ or error}"]
    if loaded.column_names != table.column_names or not loaded["example_id"].equals(table["example_id"]):
        return [f"load_dataset gives rows of another curation, of columns {loaded.column_names}"]
    found = []
    for name in case.rows[0]:
        if name in opened:
            values, expected = opened[name], _values(table[name])
            right = len(values) == len(expected) and all(map(_near, values, expected))
        else:
            values, expected = cells_of(loaded[name]), cells_of(table[name])
            right = values == expected
        if not right:
            found.append(f"column {name!r}: load_dataset gives {values!r}, not {expected!r}")
    return found

"""Convert rows of Python values, and objects with Arrow's C interface, to Arrow tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import pyarrow as pa

from curate.data.json_values import column_of
from curate.data.objects import plain_value
from curate.data.wording import first_line, listed
from curate.errors import InputError

_Read = tuple[pa.Table, list[tuple[str, str]]]


def from_rows(rows: Sequence[Any]) -> _Read:
    """The rows of a list of dicts, and (column, note) for each column that is kept as text or JSON.

    A missing key is null, as in JSON Lines.
    """
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(
                f"item {number} of the list is a {type(row).__qualname__}, not a dict of a row; make it one"
            )
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _table(names, {name: [row.get(name) for row in rows] for name in names})


def from_columns(columns: Mapping[str, Any]) -> _Read:
    """The rows of a dict of lists, arrays or series of equal length, and notes as from `from_rows`."""
    cells: dict[str, Any] = {}
    for name, values in columns.items():
        if isinstance(values, pa.Array | pa.ChunkedArray):
            cells[name] = values
            continue
        values = values.tolist() if callable(getattr(values, "tolist", None)) else values
        if not isinstance(values, list | tuple):
            kind = type(values).__qualname__
            table = hands_out_arrow(values) or kind in ("Dataset", "DataFrame")
            remedy = f"give data[{name!r}] alone" if table else "make it a list"
            raise InputError(f"key {name!r} of the dict holds a {kind}, not a list of its cells; {remedy}")
        cells[name] = values
    lengths = {name: len(values) for name, values in cells.items()}
    if len(set(lengths.values())) > 1:
        sizes = listed([f"{name} {length:,}" for name, length in lengths.items()])
        raise InputError(f"the lists of the dict have different lengths ({sizes}); give each one cell per row")
    return _table(list(columns), cells)


def _table(names: list[Any], cells: Mapping[str, Any]) -> _Read:
    """Convert columns of Python values or Arrow arrays to a table, and note conversions."""
    if any(not isinstance(name, str) for name in names):
        raise InputError(f"column names {listed([str(name) for name in names])} are not all strings; make them strings")
    arrays, notes = [], []
    for name in names:
        values = cells[name]
        if not isinstance(values, pa.Array | pa.ChunkedArray):
            try:
                values, lines = column_of(name, [plain_value(name, value, nan) for value in values])
            except RecursionError:
                raise InputError(f"column {name!r} nests too deep; flatten it") from None
            notes += [(name, line) for line in lines]
        arrays.append(values)
    return pa.Table.from_arrays(arrays, names=names), notes


def hands_out_arrow(data: Any) -> bool:
    """Whether an object exports Arrow's C interface, as tables of polars and duckdb do."""
    return any(callable(getattr(data, name, None)) for name in ("__arrow_c_stream__", "__arrow_c_array__"))


def from_arrow(data: Any) -> pa.Table:
    """The rows of an object with Arrow's C interface; a stream is consumed."""
    kind = f"{type(data).__module__}.{type(data).__qualname__}"
    try:
        return pa.table(data)
    except Exception as error:  # of whatever library hands it out
        raise InputError(
            f"the {kind} cannot be converted to an Arrow table ({first_line(error)}); convert it to a pyarrow.Table"
        ) from error

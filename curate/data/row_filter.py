"""Filter rows by conditions on columns, such as `split=train,level!=5`."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.json_columns import plain_text
from curate.data.json_values import is_json
from curate.data.messages import decoded
from curate.data.wording import listed, nearest, short, type_name
from curate.errors import DataWarning, InputError
from curate.types import IntArray

_CONDITION = re.compile(r"\s*(.*?)\s*(!=|=)\s*(.*?)\s*")


def matching_rows(table: pa.Table, where: str, description: str) -> IntArray:
    """(m,) int64 positions of the rows that satisfy every condition. Raises InputError if there are none."""
    keep = np.ones(table.num_rows, np.bool_)  # (rows,)
    for name, equal, value in _conditions(where):
        if name not in table.column_names:
            names = table.column_names
            raise InputError(
                f"--where {where}: there is no column {name!r}{nearest(name, names)}; columns are {listed(names)}"
            )
        cells = _as_text(table[name], where)
        matches = pc.fill_null(pc.equal(cells, value), False).to_numpy()
        if equal and not matches.any():
            examples = ", ".join(repr(short(text)) for text in decoded(pc.unique(cells.drop_null())[:5]))
            raise InputError(f"--where {where}: no row has {name}={value}; column {name!r} holds {examples}, ...")
        keep &= matches if equal else ~matches
    if not keep.any():
        raise InputError(f"--where {where}: no row of {description} fulfills all conditions; loosen one")
    return np.flatnonzero(keep).astype(np.int64)


def _conditions(where: str | None) -> list[tuple[str, bool, str]]:
    """(column, whether equal or unequal, value) of each condition."""
    conditions = []
    for piece in [] if where is None else where.split(","):
        match = _CONDITION.fullmatch(piece)
        if match is None or not match[1]:
            raise InputError(f"--where {where}: {piece!r} is not COLUMN=VALUE or COLUMN!=VALUE")
        conditions.append((match[1], match[2] == "=", match[3]))
    return conditions


def _as_text(column: pa.ChunkedArray, where: str | None) -> pa.ChunkedArray:
    if is_json(column.type):
        return plain_text(column)
    try:
        return column.cast(pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"--where {where}: a column of {type_name(column.type)} cannot be compared with text"
        ) from error


def warn_of_splits(table: pa.Table, where: str | None) -> None:
    """Warn if a column `split` has several values and no condition selects among them."""
    if "split" not in table.column_names or any(name == "split" for name, _, _ in _conditions(where)):
        return
    try:
        column = _as_text(table["split"], where).drop_null()
    except InputError:  # lists, bytes and other things that are not names of splits
        return
    counted = pc.value_counts(column)
    counts = dict(zip(decoded(counted.field("values")), counted.field("counts").to_pylist(), strict=True))
    if len(counts) > 1:
        best = "train" if "train" in counts else max(counts, key=lambda value: counts[value])
        values = ", ".join(f"{short(value)} {count:,}" for value, count in list(counts.items())[:6])
        warnings.warn(
            f"column 'split' has several values ({values}) and all rows are used; --where split={best} takes one",
            DataWarning,
            stacklevel=3,
        )

"""The rows of a small result, compressed for its report; assets/embedded_rows.js reads them."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.data.messages import decoded
from curate.difficulty.figures import rounded
from curate.report.finished_run import Finished, id_array, look_up, read_table, shards
from curate.storage.places import arrow_path

# Of the page, with everything in it. Larger results are browsed with `curate view`.
MOST_BYTES = 10_000_000
# What is not even tried: text of this kind hardly ever compresses to a tenth.
_MOST_UNPACKED = 80_000_000
_MOST_ROWS = 200_000
OWN = ("example_id", "source_id", "origin", "copy", "difficulty", "cluster", "hard")
TURNS = ({"role", "content"}, {"from", "value"})


def packed_rows(finished: Finished, most: int) -> str | None:
    """The rows of data/ in base64, at most `most` characters; None where there are none, or too many.

    Deflated JSON. columns: names of the input's columns. cells: for each of them the texts, own: `OWN` and what the
    tables know of the rows, each a list, or {values, codes} where values repeat. place: (m,) of each row's original in
    losses, which holds K values of `steps` for every input row, one row after the other.
    parents: problems that new rows were made from, by id, where their rows are not in data/; problem: their column.
    """
    files = shards(finished.directory)
    if finished.output is None or finished.rows is None or not files:
        return None
    rows, place = finished.rows, finished.output.parent
    sizes = [pq.read_metadata(arrow_path(path)) for path in files]
    unpacked = sum(file.row_group(k).total_byte_size for file in sizes for k in range(file.num_row_groups))
    if len(place) > _MOST_ROWS or unpacked > _MOST_UNPACKED:
        return None
    parts = [table for path in files if (table := read_table(path)) is not None]
    table = pa.concat_tables(parts, promote_options="permissive") if len(parts) > 1 else parts[0]
    names = [name for name in table.column_names if name not in OWN]
    source = look_up(finished.run, "data", "columns", "source")
    measured = np.where(finished.output.copied, place, -1)  # what is known of an original is not so of a new row
    flags = {"noise": rows.noise_suspect, "reducible": rows.reducible, "tokens": rows.tokens}
    own: dict[str, Any] = {name: _values(table[name]) for name in OWN}
    own |= {name: _taken(values, measured) for name, values in flags.items()}
    cells = [_packed(_texts(table[name])) for name in names]
    own["source_label"] = cells[names.index(source)] if source in names else _packed(pa.nulls(len(table), pa.string()))
    steps = [] if rows.trajectories is None else rows.trajectories.steps.tolist()
    losses = [] if rows.trajectories is None else _finite(rows.trajectories.losses)
    ids = set(table["example_id"].to_pylist())
    problems = {row: text for row, text in parent_problems(finished.directory).items() if row not in ids}
    parents = {"parents": problems, "problem": problem_column(finished.run, names)}
    content = {
        "columns": names,
        "cells": cells,
        "own": own,
        "steps": steps,
        "losses": losses,
        "place": place.tolist(),
    } | parents
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode("utf-8", "replace"))).decode()
    return packed if len(packed) <= most else None


def parent_problems(directory: Path) -> dict[str, str]:
    """{example id: its problem} of every row that new problems were made from."""
    table = read_table(directory / "tables" / "synthesis.parquet", "source_id", "parent_problem")
    if table is None or table.num_columns < 2:
        return {}
    pairs = zip(table["source_id"].to_pylist(), _texts(table["parent_problem"]).to_pylist(), strict=True)
    return {row: text for row, text in pairs if row is not None and text is not None}


def problem_column(run: dict[str, Any], names: list[str]) -> int:
    """Position among `names` of the column with the problems."""
    roles = (look_up(run, "data", "columns", role) for role in ("prompt", "instruction", "messages", "text"))
    return next((names.index(name) for name in roles if name in names), 0)


def is_turns(kind: pa.DataType) -> bool:
    """Whether a column is a list of who said what and nothing else."""
    if not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
        return False
    return pa.types.is_struct(kind.value_type) and {field.name for field in kind.value_type} in TURNS


def _texts(column: pa.ChunkedArray) -> pa.Array:
    """(n,) strings: texts as they are, conversations as "who: what", and anything else as JSON."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.concat_arrays([pa.array([], pa.large_string()), *column.cast(pa.large_string()).chunks])
    storage = column.cast(kind.storage_type) if isinstance(kind, pa.ExtensionType) else column
    if isinstance(kind, pa.ExtensionType) and pa.types.is_string(storage.type):
        return _texts(storage)
    as_text = _spoken if is_turns(kind) else _json
    return pa.array([as_text(value) if value.is_valid else None for value in storage], pa.large_string())


def _spoken(turns: pa.Scalar) -> str:
    return "\n\n".join(": ".join(_json(part) for part in turn.values() if part.is_valid) for turn in turns)


def _json(scalar: pa.Scalar) -> str:
    try:
        value = scalar.as_py()
    except UnicodeDecodeError as error:
        return f"[not valid UTF-8: {error.reason}]"
    except (ValueError, OverflowError):  # Python's dates end in the year 9999, Arrow's do not
        return "[a value that Python cannot hold]"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _packed(texts: pa.Array) -> Any:
    """Each text once, with which of them each row has: a copy of a row costs next to nothing."""
    encoded = texts.dictionary_encode()
    codes = encoded.indices.cast(pa.int64()).fill_null(-1)
    return {"values": decoded(encoded.dictionary), "codes": codes.to_pylist()}


def _values(column: pa.ChunkedArray) -> Any:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        ids = id_array(pa.table({"ids": column}), "ids")
        return _packed(ids) if pc.count_distinct(ids).as_py() < len(ids) else decoded(ids)
    if pa.types.is_floating(column.type):
        values = column.cast(pa.float64()).fill_null(float("nan")).to_numpy()
        return [float(f"{value:.8g}") if np.isfinite(value) else None for value in values.tolist()]  # a float32, whole
    return column.to_pylist()


def _taken(values: npt.NDArray[Any] | None, places: npt.NDArray[Any]) -> list[Any]:
    """(m,) the value at each place, None at -1 and where nothing is known."""
    if values is None:
        return [None] * len(places)
    return [value if place >= 0 else None for value, place in zip(values[places].tolist(), places, strict=True)]


def _finite(values: npt.NDArray[Any]) -> list[float | None]:
    """Flat, to four significant digits as all plots are; None where a value is not finite."""
    flat = np.asarray(values, np.float64).ravel()
    finite = np.isfinite(flat)
    numbers = rounded(np.where(finite, flat, 0))
    return [number if is_finite else None for number, is_finite in zip(numbers, finite.tolist(), strict=True)]

"""Read numbers and ids from the folder of a finished run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.difficulty.figures import PlottedRows, Trajectories
from curate.difficulty.reducible import MOST_WRONG
from curate.errors import InputError
from curate.storage.id_lookup import IdIndex, places_of, same_ids
from curate.storage.places import arrow_path
from curate.storage.records import check_files, read_record
from curate.types import BoolArray, Float64Array, FloatArray, IntArray

_Mask = BoolArray
Counts = npt.NDArray[np.int32]
NO_SPLIT = "This folder has no tables/split.parquet."
_NAME_BYTES = 400  # most bytes of the name of a source or reason


@dataclass(frozen=True, kw_only=True)
class Rows(PlottedRows):
    """The n input rows, in the order of tables/split.parquet; fields that the run did not write are None.

    difficulty: NaN if invalid. noise_suspect, reducible: (n,) bool. source: (n,) int32 index into `source_names`, -1 =
    null. copies: (n,) int32 planned occurrences. left_out: (reason, number of rows), most frequent first.
    """

    noise_suspect: _Mask | None
    reducible: _Mask | None
    source: Counts | None
    source_names: tuple[str, ...]
    copies: Counts | None
    left_out: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Output:
    """The m rows of data/.

    parent: (m,) position of the input row that each was derived from (int32, or int64 if there are many), -1 = none.
    origin: (m,) int32 index into `origins`. copied: (m,) bool, whether the row is an input row or a copy of one.
    weight: (m,) float64 weights; None if copies are separate rows.
    """

    parent: npt.NDArray[Any]
    origin: Counts
    origins: tuple[str, ...]
    copied: _Mask
    weight: Float64Array | None = None


@dataclass(frozen=True)
class Finished:
    """A finished run.

    run: the content of run.json. counts, seed: from it (seed 0 if it has none). rows: None without a table of the
    split. output: None without data or split.
    """

    directory: Path
    run: dict[str, Any]
    counts: dict[str, Any]
    seed: int
    rows: Rows | None
    output: Output | None


def look_up(value: Any, *path: str) -> Any:
    """The value at `path` inside nested objects, or None."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def mapping(value: Any, *path: str) -> dict[str, Any]:
    """The object at `path` inside `value`; empty if there is none."""
    inner = look_up(value, *path)
    return inner if isinstance(inner, dict) else {}


def read_finished(directory: Path, record: dict[str, Any] | None = None) -> Finished:
    """Read the run in `directory`. record: content of a run.json that is not written yet.

    Tables are joined by `example_id`, never by position.

    Raises InputError if there is no readable run.json, or if tables are about different rows.
    """
    # Through JSON, so that tuples and numbers have the types that reading run.json gives.
    run = _read_run(directory / "run.json") if record is None else json.loads(json.dumps(record))
    counts, seed, rows = mapping(run, "counts"), look_up(run, "seed"), _read_rows(directory / "tables")
    # Without the count of weights, a column of that name is the input's own.
    output = None if rows is None else _read_output(shards(directory), rows.ids, "output_weighted" in counts)
    return Finished(directory, run, counts, seed if isinstance(seed, int) else 0, rows, output)


def _read_run(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path.parent} holds no run.json; give the folder that `curate run --out` finished")
    run = read_record(path, "remove the folder and rerun the command that wrote it, or name another")
    check_files(path.parent, run, "rerun with --fresh")
    return run


def _read_rows(tables: Path) -> Rows | None:
    """Read the input rows from tables/, joined by id; None without tables/split.parquet."""
    ids_of = read_table(tables / "split.parquet", "example_id")
    if ids_of is None:
        return None
    ids = id_array(ids_of)
    del ids_of
    split = _Columns(tables / "split.parquet", _column_names(tables / "split.parquet"), None)
    difficulty = _floats(split["difficulty"])
    valid = np.isfinite(difficulty)  # (n,)
    source: Counts | None = None
    names: tuple[str, ...] = ()
    if split.knows("source"):
        codes, names = numbered(split["source"])
        source = codes.astype(np.int32)
    scores, plan, traces = (_aligned(tables / f"{name}.parquet", ids) for name in ("scores", "plan", "trajectories"))
    return Rows(
        ids=ids,
        difficulty=difficulty,
        valid=valid,
        hard=_booleans(split["hard"]) & valid,
        cluster=_integers(split["cluster"], -2),
        noise_suspect=_booleans(split["noise_suspect"]) if split.knows("noise_suspect") else None,
        reducible=_booleans(split["reducible"]) if split.knows("reducible") else None,
        source=source,
        source_names=names,
        tokens=_integers(scores["tokens"]) if scores is not None and "tokens" in scores.names else None,
        copies=None if plan is None else _integers(plan["count"]),
        left_out=() if plan is None else _left_out(plan),
        trajectories=None if traces is None else _trajectories(traces),
    )


def doubtful_rows(finished: Finished, rows: Rows) -> BoolArray | None:
    """(n,) hard rows that are not reducible, if the estimated share of wrong ones is too high; else None."""
    interval = look_up(finished.run, "diagnostics", "reducible", "interval")
    measured = isinstance(interval, list) and len(interval) == 2 and all(isinstance(bound, float) for bound in interval)
    if rows.reducible is None or not measured or interval[0] <= MOST_WRONG:
        return None
    return rows.hard & ~rows.reducible


def read_table(path: Path, *columns: str) -> pa.Table | None:
    """Read the named columns that a Parquet file has (all, if none is named); None if there is no file."""
    if not path.is_file():
        return None
    with _readable(path):
        names = pq.read_schema(arrow_path(path)).names
        return pq.read_table(arrow_path(path), columns=[name for name in names if not columns or name in columns])


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise InputError(
            f"{path} is not readable Parquet ({' '.join(str(error).split())}); run again with --fresh"
        ) from error


def _column_names(path: Path) -> list[str]:
    with _readable(path):
        return list(pq.read_schema(arrow_path(path)).names)


def _holds_ids(path: Path, ids: pa.Array) -> bool:
    """Whether the column `example_id` of a file equals `ids`, looked at in parts, so that it is not in memory twice."""
    seen = 0
    with _readable(path), pq.ParquetFile(arrow_path(path)) as file:
        for batch in file.iter_batches(columns=["example_id"]):
            part = batch.column(0)
            if not same_ids(part, ids.slice(seen, len(part))):
                return False
            seen += len(part)
    return seen == len(ids)


def id_array(table: pa.Table, column: str = "example_id") -> pa.Array:
    """A column of ids as one array of strings."""
    ids = table[column]
    return ids.chunk(0) if ids.num_chunks == 1 else pa.concat_arrays(ids.chunks or [pa.array([], ids.type)])


@dataclass(frozen=True)
class _Columns:
    """The columns of a table, read one at a time. positions: (n,) rows to take; None = all in order."""

    path: Path
    names: list[str]
    positions: IntArray | None

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        table = read_table(self.path, name)
        assert table is not None
        return table[name] if self.positions is None else table[name].take(pa.array(self.positions))

    def knows(self, name: str) -> bool:
        """Whether there is a column of this name that is not all null."""
        return name in self.names and bool(self[name].null_count < len(self[name]))


def _aligned(path: Path, ids: pa.Array) -> _Columns | None:
    """The columns of a table, joined to `ids` in their order; None if there is no file."""
    if not path.is_file():
        return None
    names = _column_names(path)
    if _holds_ids(path, ids):
        return _Columns(path, names, None)
    table = read_table(path, "example_id")
    assert table is not None
    positions = places_of(ids, id_array(table))
    if (positions < 0).any():
        absent = ids[int(np.argmax(positions < 0))].as_py()
        raise InputError(f"{path} lacks example_id {absent!r} of split.parquet; run again with --fresh")
    return _Columns(path, names, positions)


def _floats(column: pa.ChunkedArray) -> FloatArray:
    return np.asarray(column.cast(pa.float32()).fill_null(float("nan")).to_numpy(), np.float32)


def _integers(column: pa.ChunkedArray, null: int = 0) -> npt.NDArray[Any]:
    """(n,) int32, or int64 for columns of other types."""
    kind = pa.int32() if column.type == pa.int32() else pa.int64()
    return np.asarray(column.cast(kind).fill_null(null).to_numpy())


def _booleans(column: pa.ChunkedArray) -> _Mask:
    return np.asarray(column.fill_null(False).to_numpy(), np.bool_)


def numbered(column: pa.ChunkedArray) -> tuple[IntArray, tuple[str, ...]]:
    """(n,) int64 index into the distinct values, -1 for null; and the distinct values."""
    encoded = pa.concat_arrays([pa.array([], pa.large_string()), *column.cast(pa.large_string()).chunks])
    encoded = encoded.dictionary_encode()
    codes = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return codes, tuple(cut_text(value, _NAME_BYTES) for value in encoded.dictionary)


def cut_text(scalar: Any, limit: int) -> str:
    """At most `limit` bytes of a string scalar, cut before decoding, so that a cell of megabytes is cheap.

    Invalid UTF-8 becomes U+FFFD, where Arrow's own conversion would raise.
    """
    buffer = scalar.as_buffer()
    return "" if buffer is None else str(buffer.slice(0, min(limit, buffer.size)).to_pybytes(), "utf-8", "replace")


def _left_out(plan: _Columns) -> tuple[tuple[str, int], ...]:
    if "reason" not in plan.names:
        return ()
    codes, names = numbered(plan["reason"].filter(pc.less_equal(plan["count"], 0)))
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    return tuple(sorted(zip(names, sizes.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0])))


def _trajectories(table: _Columns) -> Trajectories | None:
    """Loss trajectories with checkpoints in the order of steps, regardless of the order of columns."""
    names = (name for name in table.names if name.startswith("loss_"))
    steps = sorted(int(name[5:]) for name in names if name[5:].isdecimal())
    if not steps:
        return None
    first = _floats(table[f"loss_{steps[0]}"])
    losses = np.empty((len(first), len(steps)), np.float32)
    for k, step in enumerate(steps):
        losses[:, k] = _floats(table[f"loss_{step}"]) if k else first
    return Trajectories(np.array(steps, np.int64), losses)


def shards(directory: Path) -> list[Path]:
    """The files of the curated dataset, in order."""
    return sorted((directory / "data").glob("train-*.parquet"))


def _read_output(files: list[Path], ids: pa.Array, weighted: bool) -> Output | None:
    """The rows of data/ without their text; None if there is no data. ids: of the input rows."""
    names_read = ("source_id", "origin", *(["weight"] if weighted else []))
    if not files:
        return None
    index, total = IdIndex.of(ids), sum(_row_count(path) for path in files)
    parent: npt.NDArray[Any] = np.empty(total, np.int32 if len(ids) < 1 << 31 else np.int64)  # (m,)
    origin, weight = np.empty(total, np.int32), np.empty(total) if weighted else None  # (m,) each
    number_of_origin: dict[str, int] = {}
    low = 0
    for path in files:
        table = read_table(path, *names_read)
        assert table is not None
        rows = slice(low, low + len(table))
        parent[rows] = index.places(id_array(table, "source_id"))
        numbers, names_here = numbered(table["origin"])
        codes = [number_of_origin.setdefault(name, len(number_of_origin)) for name in names_here]
        origin[rows] = np.array([*codes, -1], np.int32)[numbers]
        if weight is not None:
            weight[rows] = table["weight"].to_numpy()
        low += len(table)
    names = tuple(number_of_origin)
    is_copy = np.array([*(name in ("original", "duplicate") for name in names), False])  # by origin, -1 is the last
    return Output(parent, origin, names, is_copy[origin] & (parent >= 0), weight)


def _row_count(path: Path) -> int:
    with _readable(path):
        return int(pq.read_metadata(arrow_path(path)).num_rows)


def spread(order: IntArray, marked: _Mask | None, most: int) -> IntArray:
    """At most `most` marked rows, evenly spaced along `order` from the first to the last."""
    marked_rows = order[:0] if marked is None else order[marked[order]]
    places = np.linspace(0, len(marked_rows) - 1, min(most, len(marked_rows)))
    return marked_rows[places.round().astype(np.int64)]

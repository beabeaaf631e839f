"""Take rows of Arrow tables by position in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import InputError
from curate.storage.arrow_types import in_types, storable
from curate.storage.mapped import release, spilled, write_stream
from curate.types import IntArray

_SLICE_ROWS = 32_768
_SLICE_BYTES = 256 << 20  # well under the 2 GiB that 32-bit offsets reach, so that uneven rows still fit
IN_MEMORY = 512 << 20  # bytes of rows up to which they are gathered directly, without runs
_RUN_BYTES = 256 << 20


@dataclass(frozen=True)
class RowStore:
    """n rows to take from, held as record batches.

    `Table.take` concatenates all chunks of a column first, which doubles memory and fails once the strings of a column
    exceed 2 GiB. Here rows are taken chunk by chunk, a bounded number at a time.

    batches: the rows, in order. starts: (number of batches + 1,) int64 position of the first row of each, then n.
    stored: schema of the batches. schema: schema of the returned rows. slice_rows: rows taken at a time, without effect
    on the result. nbytes: size of all rows.
    """

    batches: list[Any]
    starts: IntArray
    stored: pa.Schema
    schema: pa.Schema
    slice_rows: int
    nbytes: int

    def __len__(self) -> int:
        return int(self.starts[-1])

    def slices(self, index: IntArray) -> Iterator[pa.Table]:
        """The rows at `index` (m,) int64, as consecutive tables. Raises InputError if a position is not a row."""
        self.check(index)
        for part in self.stored_slices(index):
            yield in_types(part, self.schema)

    def check(self, index: IntArray) -> None:
        """Raise InputError if one of the positions is not a row."""
        if len(index) and (index.min() < 0 or index.max() >= len(self)):
            raise InputError(f"row positions must lie in 0..{len(self) - 1}, got {index.min()}..{index.max()}")

    def stored_slices(self, index: IntArray) -> Iterator[pa.Table]:
        """The rows at `index` (m,) in the types of `stored`, as consecutive tables."""
        for low in range(0, len(index), self.slice_rows):
            yield self._slice(index[low : low + self.slice_rows])

    def take(self, index: IntArray) -> pa.Table:
        """The rows at `index` (m,) int64, as one table of several chunks; large results are memory-mapped."""
        tables = spilled(self._released(np.asarray(index, np.int64)))
        return pa.concat_tables(tables) if tables else empty_table(self.schema)

    def _released(self, index: IntArray) -> Iterator[pa.Table]:
        for part in self.slices(index):
            yield part
            release()

    def _slice(self, index: IntArray) -> pa.Table:
        """The rows at `index` (m,) as one table: taken batch by batch, then put in order."""
        batch_of_row = np.searchsorted(self.starts, index, side="right") - 1  # (m,)
        order = np.argsort(batch_of_row, kind="stable")  # (m,) positions in index, grouped by batch
        numbers, first = np.unique(batch_of_row[order], return_index=True)
        pieces = []
        for number, rows in zip(numbers, np.split(order, first[1:]), strict=True):
            pieces.append(self.batches[number].take(pa.array(index[rows] - self.starts[number])))
        table = pa.Table.from_batches(pieces)
        if len(pieces) > 1:
            inverse = np.empty(len(order), np.int64)
            inverse[order] = np.arange(len(order))
            table = table.combine_chunks().take(pa.array(inverse))
        return table


def row_store(tables: Sequence[pa.Table]) -> RowStore:
    """The concatenated rows of tables of one schema; shares their memory."""
    schema = tables[0].schema
    storable_schema = pa.schema([field.with_type(storable(field.type)) for field in schema])
    batches: list[Any] = []
    for table in tables:
        plain = in_types(table.replace_schema_metadata(None), storable_schema)
        batches += [batch for batch in plain.to_batches() if batch.num_rows]
    starts = np.cumsum([0, *(batch.num_rows for batch in batches)]).astype(np.int64)
    nbytes = sum(batch.nbytes for batch in batches)
    slice_rows = max(1, min(_SLICE_ROWS, int(_SLICE_BYTES / max(nbytes / max(int(starts[-1]), 1), 1.0))))
    return RowStore(batches, starts, storable_schema, schema.remove_metadata(), slice_rows, nbytes)


def rows_of(table: pa.Table, rows: IntArray) -> pa.Table:
    """The rows at ascending positions (m,) without repeats; the table itself if these are all rows."""
    if len(rows) == table.num_rows:
        return table
    return row_store([table]).take(rows).replace_schema_metadata(table.schema.metadata)


def in_order(store: RowStore, index: IntArray, folder: Path | None) -> Iterator[pa.Table]:
    """The rows at `index` (m,) as consecutive tables, like `RowStore.slices`.

    Tables larger than memory are reordered with an external merge sort: stretches of the input are sorted by
    output position and written to files ("runs"); each slice of the output is then merged from a slice of every run, so
    that all files are read sequentially.

    folder: an empty folder for runs; None = no runs. Runs do not affect the result.
    """
    few = store.nbytes <= IN_MEMORY or len(index) <= store.slice_rows
    if folder is None or few or bool((index[1:] >= index[:-1]).all()):
        for part in store.slices(index):
            yield part
            release()
        return
    store.check(index)
    slots = np.argsort(index, kind="stable")  # (m,) output positions, in input order
    size = max(store.slice_rows, int(_RUN_BYTES * len(store) / store.nbytes))
    bounds = range(0, len(slots), size)
    runs: list[pa.Table] = []
    for low in bounds:
        slots[low : low + size].sort()
        parts = store.stored_slices(index[slots[low : low + size]])
        runs.append(write_stream(parts, store.stored, folder / f"{len(runs):06d}.arrow"))
        release()
    for start in range(0, len(index), store.slice_rows):
        end = min(start + store.slice_rows, len(index))
        pieces, places = [], []
        for low, run in zip(bounds, runs, strict=True):
            first, last = np.searchsorted(slots[low : low + size], (start, end)).tolist()
            pieces.append(run.slice(first, last - first))
            places.append(slots[low + first : low + last])
        inverse = np.argsort(np.concatenate(places))
        yield in_types(pa.concat_tables(pieces).combine_chunks().take(pa.array(inverse)), store.schema)
        release()


def empty_table(schema: pa.Schema) -> pa.Table:
    """A table without rows, also of extension types, for which `pyarrow.Schema.empty_table` fails."""
    return pa.Table.from_arrays([pa.chunked_array([], field.type) for field in schema], schema=schema)

"""Take rows of Arrow tables by position in bounded memory.

`Table.take` concatenates all chunks of a column first, which doubles memory and fails once the strings of a column
exceed 2 GiB. Here rows are taken chunk by chunk, a bounded number at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate.errors import InputError
from curate.storage.arrow_types import in_types, storable
from curate.storage.mapped import release
from curate.storage.spilling import spilled
from curate.types import IntArray

_SLICE_ROWS = 32_768
_SLICE_BYTES = 256 << 20  # well under the 2 GiB that 32-bit offsets reach, so that uneven rows still fit


@dataclass(frozen=True)
class RowStore:
    """n rows to take from, held as record batches.

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
        return pa.concat_tables(tables) if tables else self.schema.empty_table()

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

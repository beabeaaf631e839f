"""Rows by position: in any order, with repeats, and past what 32-bit offsets reach."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curate.data.row_store import row_store
from curate.errors import InputError
from tests.fixtures.mixed_rows import plain, table_of


@pytest.mark.parametrize("seed", range(4))
def test_take_equals_indexing_whatever_the_chunks(seed: int, small_slices: None) -> None:
    rng = np.random.default_rng(seed)
    table = table_of(60)
    cuts = np.sort(rng.choice(60, 5))
    parts = [table.slice(low, high - low) for low, high in zip([0, *cuts], [*cuts, 60], strict=True)]
    index = rng.integers(0, 90, rng.integers(0, 200))
    taken = row_store([pa.concat_tables(parts), table_of(30, 60)]).take(index)
    assert taken.schema.equals(table.schema)
    assert taken.to_pylist() == plain(table_of(90), index)


@pytest.mark.parametrize("position", [-1, 5])
def test_positions_outside_are_an_error(position: int) -> None:
    with pytest.raises(InputError, match=r"must lie in 0\.\.4"):
        row_store([table_of(5)]).take(np.array([0, position]))


@pytest.mark.long
def test_more_string_bytes_than_32_bit_offsets_reach() -> None:
    cell = 1 << 20
    data = pa.py_buffer(b"x" * (1200 * cell))
    ends = pa.array(np.arange(1201, dtype=np.int32) * cell).buffers()[1]
    chunk = pa.Array.from_buffers(pa.string(), 1200, [None, ends, data])
    table = pa.table({"text": pa.chunked_array([chunk, chunk])})
    lengths = [
        len(text) for part in row_store([table]).slices(np.arange(2399, -1, -1)) for text in part["text"].to_pylist()
    ]
    assert lengths == [cell] * 2400

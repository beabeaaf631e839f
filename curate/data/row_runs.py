"""Reorder tables larger than memory with an external merge sort.

Stretches of the input are sorted by output position and written to files ("runs"); each slice of the output is then
merged from a slice of every run, so that all files are read sequentially.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.data.row_store import RowStore
from curate.storage.arrow_types import in_types
from curate.storage.mapped import release, write_stream
from curate.types import IntArray

IN_MEMORY = 512 << 20  # bytes of rows up to which they are gathered directly, without runs
_RUN_BYTES = 256 << 20


def in_order(store: RowStore, index: IntArray, folder: Path | None) -> Iterator[pa.Table]:
    """The rows at `index` (m,) as consecutive tables, like `RowStore.slices`.

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

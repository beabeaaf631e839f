"""Encode rows that arrive in order as Parquet shards, in this process or on the workers of an engine."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.engine.protocol import Engine, Item, WorkerContext
from curate.storage.arrow_types import storable
from curate.storage.atomic import sync

GROUP_ROWS = 32_768  # rows per Parquet row group
_WINDOW = 8  # shards on their way to workers and back, which bounds memory


def write_shards(
    rows: Iterator[pa.Table],
    count: int,
    schema: pa.Schema,
    paths: Sequence[Path],
    rows_per_shard: int,
    engine: Engine | None,
) -> None:
    """Write and sync consecutive tables with `count` rows together as shards; the bytes depend on the rows only.

    engine: its workers encode if there are several shards; None = this process.
    """
    groups = _regrouped(rows, rows_per_shard)
    counts = [min(rows_per_shard, count - number * rows_per_shard) for number in range(len(paths))]
    if engine is not None and len(paths) > 1:
        _encoded_by(engine, groups, counts, schema, paths)
        return
    for path, shard_rows in zip(paths, counts, strict=True):
        # A Python file object keeps errno in its errors, and closes quietly after a failed write.
        with path.open("wb") as file:
            encode(_shard(groups, shard_rows), schema, file)
        sync(path)


def _shard(groups: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The next groups, with `rows` rows together."""
    while rows > 0:
        group = next(groups)
        rows -= group.num_rows
        yield group


def encode(groups: Iterable[pa.Table], schema: pa.Schema, file: IO[bytes]) -> None:
    """Write row groups as one Parquet file."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in groups:
            writer.write_table(_copied(group), row_group_size=GROUP_ROWS)


def _encoded_by(
    engine: Engine, groups: Iterator[pa.Table], counts: Sequence[int], schema: pa.Schema, paths: Sequence[Path]
) -> None:
    """Write shards that the engine's workers encode. Runs on the driver, which puts their rows in order."""
    shared: dict[int, Any] = {}  # shard -> reference to its groups, until its file is written

    def payload(number: int) -> Any:
        if number not in shared:  # else its worker was lost
            shared[number] = engine.share(list(_shard(groups, counts[number])))
        return (shared[number],)  # in a tuple: an engine may resolve a bare reference on its way

    items = [Item(partial(payload, number), count) for number, count in enumerate(counts)]
    for number, content, _ in engine.map(_EncodingWorker, schema, items, stage="write", window=_WINDOW):
        with paths[number].open("wb") as file:
            file.write(content)
        sync(paths[number])
        del shared[number]


class _EncodingWorker:
    """Runs on a worker: the bytes (b,) uint8 of a Parquet file with the row groups of a shard."""

    def __init__(self, schema: pa.Schema, worker: WorkerContext) -> None:
        self.schema, self.fetch = schema, worker.fetch

    def __call__(self, payload: tuple[Any]) -> npt.NDArray[np.uint8]:
        (groups,), file = payload, io.BytesIO()
        encode(self.fetch(groups), self.schema, file)
        return np.frombuffer(file.getvalue(), np.uint8)


def _copied(table: pa.Table) -> pa.Table:
    """The table with columns concatenated if there are views in structs, whose slices Parquet's writer cannot write."""
    if not any(_has_views_in_structs(kind) for kind in table.schema.types):
        return table
    columns = [pa.concat_arrays(column.chunks) if column.num_chunks else column for column in table.columns]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _has_views_in_structs(kind: pa.DataType) -> bool:
    children = [kind.field(k).type for k in range(kind.num_fields)]
    return (pa.types.is_struct(kind) and any(child != storable(child) for child in children)) or any(
        map(_has_views_in_structs, children)
    )


def _regrouped(slices: Iterator[pa.Table], rows_per_shard: int) -> Iterator[pa.Table]:
    """Regroup tables into row groups, also cut at shard ends, so that boundaries depend on row numbers only."""
    done = 0  # rows of the current shard
    waiting: list[pa.Table] = []
    for part in slices:
        while part.num_rows:
            held = sum(table.num_rows for table in waiting)
            room = min(GROUP_ROWS, rows_per_shard - done) - held
            waiting.append(part.slice(0, room))
            part = part.slice(room)
            if waiting[-1].num_rows == room:
                group = pa.concat_tables(waiting)
                done = (done + group.num_rows) % rows_per_shard
                waiting = []
                yield group
    if waiting:
        yield pa.concat_tables(waiting)

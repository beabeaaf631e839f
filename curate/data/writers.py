"""Write datasets as Parquet shards, or return them in the type of the input."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.data.json_as_text import as_text, json_columns
from curate.data.readers import Loaded
from curate.data.row_store import empty_table, in_order, row_store, rows_of
from curate.data.wording import type_name
from curate.engine.protocol import Engine, Item, WorkerContext
from curate.errors import InputError
from curate.storage.arrow_types import storable
from curate.storage.atomic import disk_errors, sync
from curate.storage.temporary import temporary_folder
from curate.types import IntArray

# Everywhere `index` (m,) int64 is the final order: a position below n is a row of the input, n + k is new row k.

Index = IntArray
GROUP_ROWS = 32_768  # rows per Parquet row group
_SHARD_ROWS = 8 * GROUP_ROWS
_WINDOW = 8  # shards on their way to workers and back, which bounds memory


@dataclass(frozen=True)
class Added:
    """Columns to append to an output, computed on demand; a table can be used instead.

    make: returns rows low..high-1 as a table of `schema`.
    """

    schema: pa.Schema
    num_rows: int
    make: Callable[[int, int], pa.Table]

    def slice(self, low: int, rows: int) -> pa.Table:
        return self.make(low, low + rows)

    def part(self, start: int, rows: int) -> Added:
        """The `rows` rows from `start` on."""
        return Added(self.schema, rows, lambda low, high: self.make(start + low, start + high))


Extra: TypeAlias = pa.Table | Added


def _output_schema(table: pa.Schema, extra: pa.Schema) -> pa.Schema:
    """The input's columns with their types, then the extra ones.

    Of the schema's metadata only Hugging Face's features are kept (class labels and the like), with the extra
    columns added; pandas' is dropped, since it describes an index that the rows no longer have.
    Raises InputError if both have a column of the same name.
    """
    for name in extra.names:
        if name in table.names:
            raise InputError(f"column {name!r} of the input has the name of an added column; rename it")
    fields = [*table, *extra]
    features = _features((table.metadata or {}).get(b"huggingface", b"null"))
    if not features:
        return pa.schema(fields)
    features |= {column.name: {"dtype": str(column.type), "_type": "Value"} for column in extra}
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def _features(description: bytes) -> dict[str, Any]:
    """Features in metadata that `datasets` wrote; empty if it cannot be parsed, as in a damaged file."""
    try:
        features = json.loads(description)["info"]["features"]
    except (ValueError, TypeError, KeyError):
        return {}
    return features if isinstance(features, dict) else {}


def _slices(tables: Sequence[pa.Table], index: Index, extra: Extra, runs: Path | None = None) -> Iterator[pa.Table]:
    """The output as consecutive tables of bounded size. runs: folder for the external sort, see `in_order`."""
    if extra.num_rows != len(index):
        raise InputError(f"the added columns have {extra.num_rows} rows for {len(index)} output rows; give one each")
    schema = _output_schema(tables[0].schema, extra.schema)
    store = row_store([tables[0], *(_aligned(table, tables[0].schema) for table in tables[1:])])
    done = 0
    for part in in_order(store, np.asarray(index, np.int64), runs):
        added = extra.slice(done, part.num_rows)
        done += part.num_rows
        yield pa.Table.from_arrays([*part.columns, *added.columns], schema=schema)


def _aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """New rows with the input's columns and types; missing columns are null."""
    for name in table.column_names:
        if name not in schema.names:
            raise InputError(f"new rows have a column {name!r} that the input does not have; remove it")
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        if table.schema.field(field.name).type == field.type:
            columns.append(table[field.name])
            continue
        try:
            columns.append(table[field.name].cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            kind = table.schema.field(field.name).type
            raise InputError(
                f"column {field.name!r} of the new rows holds {type_name(kind)}, not {type_name(field.type)}"
            ) from error
    return pa.Table.from_arrays(columns, schema=schema.remove_metadata())


def written_tables(loaded: Loaded, new_rows: pa.Table | None = None) -> list[pa.Table]:
    """The input's rows, and new rows, as they are written: conversations that were text are text again.

    With `nested` "text", JSON columns are text in both.
    """
    table = loaded.examples.table
    for name, column in loaded.as_came.items():
        k = table.column_names.index(name)
        cells = rows_of(pa.table({name: column}), loaded.rows)[name]
        table = table.set_column(k, table.schema.field(k).with_type(column.type), cells)
    texts = json_columns(table) if loaded.nested == "text" else []
    new = [] if new_rows is None else [as_text(new_rows, [*texts, *loaded.as_came])]
    return [as_text(table, texts), *new]


def assemble(tables: Sequence[pa.Table], index: Index, extra: Extra) -> pa.Table:
    """The output as one table: rows `index` (m,) of the concatenated tables, with m rows of extra columns appended."""
    parts = list(_slices(tables, index, extra))
    return pa.concat_tables(parts) if parts else empty_table(_output_schema(tables[0].schema, extra.schema))


def write_parquet_shards(
    tables: Sequence[pa.Table],
    index: Index,
    extra: Extra,
    directory: Path,
    *,
    rows_per_shard: int = _SHARD_ROWS,
    name: str = "train",
    engine: Engine | None = None,
) -> list[Path]:
    """Write `assemble(tables, index, extra)` as name-00000-of-0000N.parquet, without holding it in memory.

    tables: the input, then tables of new rows with (some of) its columns. The same rows give the same bytes with the
    same version of pyarrow. Files are synced when this returns. Raises ExternalError if the disk is full. engine: its
    workers encode the shards if there are several; None = this process.
    """
    shards = max(1, -(-len(index) // rows_per_shard))
    paths = [directory / f"{name}-{number:05d}-of-{shards:05d}.parquet" for number in range(shards)]
    schema = _output_schema(tables[0].schema, extra.schema)
    with disk_errors(directory), temporary_folder(".runs-", directory) as runs:
        rows = _slices(tables, index, extra, runs)
        write_shards(rows, len(index), schema, paths, rows_per_shard, engine)
    return paths


def hand_back(loaded: Loaded, index: Index, extra: Extra, new_rows: pa.Table | None = None) -> Any:
    """The output in the type of the input, with m rows of extra columns appended to the input's.

    DataFrame: dtypes and index are kept, a copy has the label of its row. New rows continue an integer index after its
    largest label and have missing labels in any other index; a column that they lack takes the nearest nullable dtype.
    Arrow tables and objects with Arrow's C interface: an Arrow table of the same types. Dataset: features are kept.
    DatasetDict: the split that was read is replaced, the others are the same objects. A list of dicts or a dict of
    lists: the same with the original values. Files and hub ids: a Dataset.
    """
    index = np.asarray(index, np.int64)  # (m,)
    extra = extra.slice(0, extra.num_rows)
    if loaded.kind == "pandas":
        return _as_frame(loaded, index, extra, new_rows)
    if loaded.kind in ("rows", "columns"):
        return _as_values(loaded, index, extra, new_rows)
    table = assemble(written_tables(loaded, new_rows), index, extra)
    if loaded.kind == "table":
        return table
    import datasets

    dataset = datasets.Dataset(table)
    if loaded.kind == "dataset_dict":
        return datasets.DatasetDict({**loaded.original, str(loaded.split): dataset})
    return dataset


def _as_values(loaded: Loaded, index: Index, extra: pa.Table, new_rows: pa.Table | None) -> Any:
    """The output as a list of dicts or a dict of lists, with the original objects as values."""
    _output_schema(loaded.examples.table.schema, extra.schema)  # refuses names that are taken
    old, positions, new_names = loaded.original, loaded.rows.tolist(), loaded.renamed
    if loaded.kind == "columns":
        names = [new_names.get(name, name) for name in old]
        rows = [{new_names.get(name, name): cells[row] for name, cells in old.items()} for row in positions]
    else:
        rows = [{new_names.get(name, name): value for name, value in old[row].items()} for row in positions]
    if new_rows is not None and new_rows.num_rows:
        rows += new_rows.to_pylist()
    added = extra.to_pylist()
    result = [{**rows[row], **extra_cells} for row, extra_cells in zip(index.tolist(), added, strict=True)]
    if loaded.kind == "rows":
        return result
    return {name: [row.get(name) for row in result] for name in [*names, *extra.column_names]}


def _as_frame(loaded: Loaded, index: Index, extra: pa.Table, new_rows: pa.Table | None) -> Any:
    """The output as a DataFrame, see `hand_back`."""
    import pandas as pd

    _output_schema(loaded.examples.table.schema, extra.schema)  # refuses names that are taken
    old = loaded.original.iloc[loaded.rows].rename(columns=dict(loaded.renamed))
    if new_rows is None or not new_rows.num_rows:
        frame = old.iloc[index].copy()
    else:
        new = _aligned(new_rows, loaded.examples.table.schema).to_pandas()
        columns = {name: _extended(old[name], new[name]).take(index) for name in old.columns}
        frame = pd.DataFrame(columns, index=_labels(old.index, len(new)).take(index))
    if extra.num_rows != len(index):
        raise InputError(f"the added columns have {extra.num_rows} rows for {len(index)} output rows; give one each")
    for name in extra.column_names:
        frame[name] = _missable(extra[name])
    return frame


def _extended(old: Any, new: Any) -> Any:
    """Values of both columns as one pandas array, in the dtype of `old` if that can hold `new`."""
    import pandas as pd

    if isinstance(old.dtype, pd.CategoricalDtype):
        strange = [value for value in new.dropna().unique() if value not in old.cat.categories]
        old = old.cat.add_categories(strange)
    elif new.isna().any() and old.dtype.kind in "iub" and not pd.api.types.is_extension_array_dtype(old.dtype):
        old = old.convert_dtypes()  # not to float64, which would round large integers
    if new.isna().all():
        new = pd.Series([None] * len(new), dtype=object)  # pandas reads null columns as floats, which fit few dtypes
    return pd.concat([old, new.astype(old.dtype)], ignore_index=True).array


def _labels(index: Any, count: int) -> Any:
    """The index, followed by labels for `count` new rows."""
    import pandas as pd

    if pd.api.types.is_integer_dtype(index.dtype):
        start = int(index.max()) + 1
        return index.append(pd.Index(range(start, start + count), dtype=index.dtype))
    positions = np.concatenate([np.arange(len(index)), np.full(count, -1)])
    return index.take(positions, allow_fill=True, fill_value=np.nan)


def _missable(column: pa.ChunkedArray) -> Any:
    """The column as a pandas array, with nullable dtypes for integers and booleans if there are missing values."""
    import pandas as pd

    kinds = {
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    return column.to_pandas(types_mapper=kinds.get if column.null_count else None).array


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
            waiting_rows = sum(table.num_rows for table in waiting)
            room = min(GROUP_ROWS, rows_per_shard - done) - waiting_rows
            waiting.append(part.slice(0, room))
            part = part.slice(room)
            if waiting[-1].num_rows == room:
                group = pa.concat_tables(waiting)
                done = (done + group.num_rows) % rows_per_shard
                waiting = []
                yield group
    if waiting:
        yield pa.concat_tables(waiting)

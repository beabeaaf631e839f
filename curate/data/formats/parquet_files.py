"""Read Parquet files, large ones in pieces that are spilled to disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.data.file_format import Format
from curate.data.no_data import unreadable
from curate.storage.mapped import spilled
from curate.storage.places import arrow_path

_PIECE, _PIECE_ROWS = 64 << 20, 65_536  # bytes and rows to read at a time


def read_parquet(paths: Sequence[Path]) -> list[pa.Table]:
    """The rows of each file; what does not fit into memory is on disk."""
    counts: list[int] = []  # of pieces, per file

    def pieces() -> Iterator[pa.Table]:
        for path in paths:
            counts.append(0)
            for piece in _pieces(path):
                counts[-1] += 1
                yield piece

    tables = iter(spilled(pieces()))
    return [pa.concat_tables(islice(tables, count)) for count in counts]


def _pieces(path: Path) -> Iterator[pa.Table]:
    """The rows of a file, at once if it is small, else in batches."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(arrow_path(path)) as file:
            groups = [file.metadata.row_group(k) for k in range(file.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            if size <= _PIECE:
                yield _whole(file)
                return
            rows = max(1, min(_PIECE_ROWS, _PIECE * file.metadata.num_rows // size))
            try:
                for batch in file.iter_batches(rows):
                    yield pa.Table.from_batches([batch]).replace_schema_metadata(file.schema_arrow.metadata)
            except pa.ArrowNotImplementedError:  # as `_whole`; raised before the first batch
                yield from (file.read_row_group(k) for k in range(file.num_row_groups))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, PARQUET.name, error) from error


def _whole(file: Any) -> pa.Table:
    try:
        return file.read()
    except pa.ArrowNotImplementedError:  # dictionaries inside of lists are read one group of rows at a time
        return pa.concat_tables(file.read_row_group(k) for k in range(file.num_row_groups))


def _column_names(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_schema(arrow_path(path)).names)


PARQUET = Format("Parquet", (".parquet", ".pq"), "as it is", tables=read_parquet, column_names=_column_names)

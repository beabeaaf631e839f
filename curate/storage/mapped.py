"""Memory-mapped files whose pages can be released after use; large tables are spilled to one."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import pyarrow as pa

from curate.storage.atomic import disk_errors
from curate.storage.temporary import temporary_place

_DONT_NEED: int | None = getattr(mmap, "MADV_DONTNEED", None)  # Windows has none
_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
IN_MEMORY = 512 << 20  # bytes of one input; does not affect what is read
_ALIGNMENT = 64


def mapped(file: IO[bytes]) -> pa.Buffer:
    """Memory-map an open file; it may be closed or removed afterwards."""
    if not os.fstat(file.fileno()).st_size:
        return pa.py_buffer(b"")  # there is nothing to map
    pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _maps.add(pages)
    return pa.py_buffer(pages)


def release() -> None:
    """Drop the resident pages of all mapped files; they are read again when next used."""
    if _DONT_NEED is not None:
        for pages in list(_maps):
            pages.madvise(_DONT_NEED)


def write_stream(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> pa.Table:
    """Write tables of one schema to a new Arrow stream file and return it as one memory-mapped table."""
    with path.open("xb") as file, pa.ipc.new_stream(file, schema) as writer:
        for table in tables:
            writer.write_table(table)
    with path.open("rb") as source:
        return pa.ipc.open_stream(mapped(source)).read_all()


def spilled(tables: Iterable[pa.Table]) -> list[pa.Table]:
    """The same tables, moved to a temporary file once they exceed `IN_MEMORY` bytes.

    Each is written before the next is requested. Raises ExternalError if the disk is full.
    """
    buffered: list[pa.Table] = []
    tables, size = iter(tables), 0
    for table in tables:
        buffered.append(table)
        size += table.nbytes
        if size > IN_MEMORY:
            break
    else:
        return buffered
    place = temporary_place()
    with disk_errors(place), tempfile.TemporaryFile(dir=place, prefix="curate-rows-") as file:
        bounds: list[tuple[int, int]] = []

        def write(table: pa.Table) -> None:
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            start = file.tell()
            with pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
            bounds.append((start, file.tell()))

        while buffered:
            write(buffered.pop(0))
        for table in tables:
            write(table)
        file.flush()
        content = mapped(file)
    return [pa.ipc.open_stream(content.slice(start, end - start)).read_all() for start, end in bounds]

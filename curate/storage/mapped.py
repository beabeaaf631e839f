"""Memory-mapped files whose pages can be released after use."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import pyarrow as pa

_DONT_NEED: int | None = getattr(mmap, "MADV_DONTNEED", None)  # Windows has none
_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


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

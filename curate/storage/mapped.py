"""Files that are read through memory, whose pages count as this process's own only while they are in use."""

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
    """The content of an open file, which may be closed or removed afterwards; pages are read where they are used."""
    if not os.fstat(file.fileno()).st_size:
        return pa.py_buffer(b"")  # there is nothing to map
    pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _maps.add(pages)
    return pa.py_buffer(pages)


def release() -> None:
    """Let go of what was read of all mapped files; whatever is used again is read again."""
    if _DONT_NEED is not None:
        for pages in list(_maps):
            pages.madvise(_DONT_NEED)


def write_stream(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> pa.Table:
    """The rows of tables of one schema, written to a new file and mapped."""
    with path.open("xb") as file, pa.ipc.new_stream(file, schema) as writer:
        for table in tables:
            writer.write_table(table)
    with path.open("rb") as written:
        return pa.ipc.open_stream(mapped(written)).read_all()

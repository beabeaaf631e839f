"""Keep small tables in memory and spill larger ones to a memory-mapped temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable

import pyarrow as pa

from curate.storage.atomic import disk_errors
from curate.storage.mapped import mapped
from curate.storage.temporary import temporary_place

IN_MEMORY = 512 << 20  # bytes of one input; does not affect what is read
_ALIGNMENT = 64


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

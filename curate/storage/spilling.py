"""Tables of any size: in memory while they are small, else in a temporary file that is mapped."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from curate.storage.atomic import disk_errors
from curate.storage.mapped import mapped

IN_MEMORY = 512 << 20  # bytes of one input; has no influence on what is read
_ALIGNMENT = 64


def spilled(tables: Iterable[pa.Table]) -> list[pa.Table]:
    """The same tables. Once they hold more than `IN_MEMORY` bytes they lie in a file that vanishes with the process.

    Each is written before the next is asked for. Raises ExternalError where the disk is full.
    """
    kept: list[pa.Table] = []
    tables, held = iter(tables), 0
    for table in tables:
        kept.append(table)
        held += table.nbytes
        if held > IN_MEMORY:
            break
    else:
        return kept
    place = temporary_place()
    with disk_errors(place), tempfile.TemporaryFile(dir=place, prefix="curate-rows-") as file:
        bounds: list[tuple[int, int]] = []

        def write(table: pa.Table) -> None:
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            start = file.tell()
            with pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
            bounds.append((start, file.tell()))

        while kept:
            write(kept.pop(0))
        for table in tables:
            write(table)
        file.flush()
        content = mapped(file)
    return [pa.ipc.open_stream(content.slice(start, end - start)).read_all() for start, end in bounds]


def temporary_place() -> Path:
    """Where large temporary files go: $TMPDIR, else /var/tmp, for /tmp lies in memory on many systems."""
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    disk = Path("/var/tmp")
    if not named and disk.is_dir() and os.access(disk, os.W_OK | os.X_OK):
        return disk
    return Path(tempfile.gettempdir())

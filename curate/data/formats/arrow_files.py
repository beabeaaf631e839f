"""Read Arrow files, also Feather, in the file or stream format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from curate.data.file_format import Format
from curate.data.no_data import unreadable
from curate.storage.mapped import mapped


def read_arrow(paths: Sequence[Path]) -> list[pa.Table]:
    """The rows of each file, memory-mapped."""
    return [_table(path) for path in paths]


def _table(path: Path) -> pa.Table:
    try:
        with path.open("rb") as file:
            content = mapped(file)
        try:
            return pa.ipc.open_file(content).read_all()
        except pa.ArrowInvalid:
            return pa.ipc.open_stream(content).read_all()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, ARROW.name, error) from error


ARROW = Format("Arrow", (".arrow", ".feather", ".ipc"), "files and streams", tables=read_arrow)

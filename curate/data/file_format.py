"""What a file format is: its suffixes, and the function that reads its files as Arrow tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

# (column, note) for each column that was converted; the column "" means the file.
Notes = list[tuple[str, str]]
# The path of a file, and its content as UTF-8: decompressed, and without a byte order mark.
TextFile = tuple[Path, pa.Buffer]


@dataclass(frozen=True)
class Format:
    """A file format; `curate.data.formats` has a module for each.

    Its files are text (`parse`) or not (`tables`). Either function raises InputError with the file, and the line if
    known, that cannot be read, and the remedy.

    name: in messages and help texts. suffixes: in lower case and without compression. about: how its files are read,
    a clause for help texts and docs. parse: called with the text of files, the columns to keep as text, and the value
    of --delimiter; returns all rows in the order of the files, and notes. tables: called with paths; returns a table
    per file. has_delimiter: whether --delimiter applies. is_prose: whether a web page is valid content. column_names:
    of a file, without its rows; None = small files are read for them.
    """

    name: str
    suffixes: tuple[str, ...]
    about: str
    parse: Callable[[Iterable[TextFile], Sequence[str], str | None], tuple[pa.Table, Notes]] | None = None
    tables: Callable[[Sequence[Path]], list[pa.Table]] | None = None
    has_delimiter: bool = False
    is_prose: bool = False
    column_names: Callable[[Path], list[str]] | None = None

"""Read text files as Arrow tables of one row per line, like `datasets`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from curate.data.file_format import Format, Notes, TextFile
from curate.errors import InputError


def read_text(
    files: Iterable[TextFile], text_columns: Sequence[str] = (), delimiter: str | None = None
) -> tuple[pa.Table, Notes]:
    """A column `text` of the lines of all files, without line ends, and a note as ("text", note).

    Lines end in \\n, \\r\\n or \\r. Empty lines are dropped: there is nothing to learn.
    files: path and content of each. text_columns, delimiter: not used. Raises InputError for a file without text.
    """
    chunks, empty = [], 0
    for path, data in files:
        text = data.to_pybytes().decode()
        lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
        filled = [line for line in lines if line]
        if not filled:
            raise InputError(f"{path} is empty; give a file with at least one line of text")
        chunks.append(pa.array(filled, pa.large_string()))
        empty += len(lines) - len(filled)
    note = "column 'text': one row per line of the file, as `datasets` reads text"
    note += f"; {empty:,} empty lines are left out" if empty else ""
    return pa.table({"text": pa.chunked_array(chunks, pa.large_string())}), [("text", note)]


TEXT = Format("text", (".txt",), "one row per line, in the column `text`", parse=read_text, is_prose=True)

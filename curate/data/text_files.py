"""Text files as Arrow tables: one row per line, as `datasets` reads them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from curate.errors import InputError


def read_text(files: Iterable[tuple[Path, pa.Buffer]]) -> tuple[pa.Table, list[tuple[str, str]]]:
    """A column `text` of the lines of all files, without their ends, and ("text", line) with what to say.

    Lines end in \\n, \\r\\n or \\r. Those without a character are left out: there is nothing in them to learn.
    files: the path and the content, UTF-8, of each. Raises InputError for a file without text.
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

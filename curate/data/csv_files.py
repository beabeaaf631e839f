"""CSV files as Arrow tables: a column has a type only if its cells can be read as nothing else."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.columns import known_names
from curate.data.wording import first_line
from curate.errors import InputError
from curate.storage import spilling
from curate.storage.mapped import release

_LEAST_BLOCK, _MOST_BLOCK = 16 << 20, 64 << 20  # bytes parsed at a time
_SAMPLE, _SAMPLE_ROWS = 1 << 16, 100  # bytes and rows that tell the delimiter
_DIVIDERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SEPARATOR = re.compile(r'"?sep=([!#-~\t ])"?\r?\n')
_BOOLEANS = (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))
_INTEGER = r"-?(0|[1-9][0-9]*)"
_NUMBER = r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|-?inf"
# What other readers take for a number or a missing one.
_LIKE_A_NUMBER = r"\s*([-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[-+]?inf(inity)?|-?nan|#?n/?a|<na>|null|none)\s*"


def read_csv(
    files: Iterable[tuple[Path, pa.Buffer, str]], text_columns: Sequence[str], delimiter: str | None = None
) -> tuple[pa.Table, list[tuple[str, str]]]:
    """Rows below a header, and (column, line) for every column that is text though it looks like something else.

    files: the path, the content (UTF-8) and the usual delimiter of each. text_columns: columns of text beside those
    that go by a known name. delimiter: of all files; without it each is divided by the usual one or, where that makes
    no columns of its rows, by a semicolon, tab, bar or comma that does; ("", line) says so.
    A column is integers, floating-point numbers or booleans if all cells of all files are that, spelled as they would
    be written again (no leading zeros or plus signs, no spaces); an empty cell is null then. All others are text, with
    the characters of the file. Raises InputError naming the line at fault.
    """
    tables, found = [], set()
    for path, data, usual in files:
        data, own = _divided(data, delimiter, usual)
        tables.append(_texts(path, data, own))
        found |= {own} - {usual, delimiter}
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")
    known = {name.casefold() for name in [*known_names(), *text_columns]}
    columns = []
    notes = [("", f"columns are divided by {_DIVIDERS.get(own, own)}") for own in sorted(found)]
    for name, cells in zip(table.column_names, table.columns, strict=True):
        column, note = (cells, None) if name.casefold() in known else _typed(cells)
        columns.append(column)
        notes += [] if note is None else [(name, f"column {name!r} is kept as text: {note}")]
    return pa.table(columns, names=table.column_names), notes


def _texts(path: Path, data: pa.Buffer, delimiter: str) -> pa.Table:
    """All cells as strings."""
    import pyarrow.csv as pv

    if not data.size:
        raise InputError(f"{path} is empty; give a file with a header and at least one row")
    parse = pv.ParseOptions(delimiter=delimiter, newlines_in_values=True)

    def read(threads: bool) -> pa.Table:
        options = pv.ReadOptions(block_size=max(_LEAST_BLOCK, min(data.size // 16, _MOST_BLOCK)), use_threads=threads)
        header = pv.open_csv(pa.BufferReader(data), read_options=options, parse_options=parse).schema.names
        convert = pv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()))
        if data.size <= spilling.IN_MEMORY or not threads:
            return pv.read_csv(pa.BufferReader(data), options, parse, convert)
        with pv.open_csv(pa.BufferReader(data), options, parse, convert) as reader:
            return pa.concat_tables(spilling.spilled(map(_one_batch, reader)))

    try:
        table = read(threads=True)
    except pa.ArrowInvalid as error:
        numbered = error
        try:
            read(threads=False)  # only one thread can number the rows in its messages
        except pa.ArrowInvalid as again:
            numbered = again
        raise InputError(f"{path}: {first_line(numbered)}; quote cells that hold commas or line breaks") from error
    _check_end(path, data, table, delimiter.encode())
    return table


def _one_batch(batch: pa.RecordBatch) -> pa.Table:
    release()
    return pa.Table.from_batches([batch])


def _divided(data: pa.Buffer, delimiter: str | None, usual: str) -> tuple[pa.Buffer, str]:
    """The rows of a file and the character that divides their cells.

    A first line `sep=;`, which spreadsheets write and understand, is not one of the rows.
    """
    head = data.slice(0, min(_SAMPLE, data.size)).to_pybytes().decode(errors="ignore")
    named = _SEPARATOR.match(head)
    if named:
        return data.slice(len(named[0].encode())), delimiter or named[1]
    if delimiter is not None:
        return data, delimiter
    widths = {each: _widths(head, each) for each in (usual, *(each for each in _DIVIDERS if each != usual))}
    # The first that divides all rows alike; among others than the usual one, that of most columns.
    alike = [width for width in widths if len(set(widths[width])) == 1 and widths[width][0] > 1]
    if usual in alike or not alike:
        return data, usual
    return data, max(alike, key=lambda each: widths[each][0])


def _widths(head: str, delimiter: str) -> list[int]:
    """Cells of each row of the beginning of a file, but for the last, which may be cut off."""
    try:
        rows = list(islice(filter(None, csv.reader(StringIO(head, newline=""), delimiter=delimiter)), _SAMPLE_ROWS))
    except csv.Error:
        return []
    return [len(row) for row in (rows if len(rows) < 2 else rows[:-1])]


def _check_end(path: Path, data: pa.Buffer, table: pa.Table, delimiter: bytes) -> None:
    """Raise InputError where the last cell begins with a quote that nothing closes: its rest is missing then."""
    if not len(table):
        return
    cell = b'"' + table.column(table.num_columns - 1)[-1].as_py().encode().replace(b'"', b'""')
    end = data.slice(max(0, data.size - len(cell) - 1)).to_pybytes()
    if end[1:] != cell or end[:1] not in (delimiter, b"\n", b"\r"):
        return
    content, quotes = np.frombuffer(data, np.uint8), 0
    for low in range(0, len(content), _LEAST_BLOCK):
        quotes += int(np.count_nonzero(content[low : low + _LEAST_BLOCK] == ord('"')))
        release()
    if quotes % 2:
        raise InputError(
            f"{path}, last row: the last cell begins with a quote that nothing closes; if the file was cut off, fetch "
            "or write it again"
        )


def _typed(cells: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str | None]:
    """The column in the type that all its cells have, or why it stays text though other readers take it for more."""
    first = _first(cells, pc.equal(cells, ""))
    if first is None:
        return pa.chunked_array([pa.nulls(len(cells))]), None
    if re.fullmatch(_LIKE_A_NUMBER, first, re.IGNORECASE) is None and not any(first in each for each in _BOOLEANS):
        return cells, None  # spares a look at every cell of a text
    filled = cells.filter(pc.not_equal(cells, ""))
    if _are_booleans(filled):
        missing = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
        return pc.equal(pc.utf8_lower(missing), "true"), None
    kind, why = _number_type(filled)
    if kind is None:
        return cells, why
    missing = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
    return missing.cast(kind), None


def _are_booleans(cells: pa.ChunkedArray) -> bool:
    first = cells[0].as_py()
    spellings = next((each for each in _BOOLEANS if first in each), None)
    return spellings is not None and bool(pc.all(pc.is_in(cells, pa.array(spellings))).as_py())


def _first(cells: pa.ChunkedArray, mask: pa.ChunkedArray) -> str | None:
    """The first cell where the mask is false."""
    first = pc.index(mask, pa.scalar(False)).as_py()
    return None if first < 0 else cells[first].as_py()


def _matches(cells: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    return pc.match_substring_regex(cells, f"^(?i:{pattern})$")


def _number_type(cells: pa.ChunkedArray) -> tuple[pa.DataType | None, str | None]:
    """int64, float64 or None for cells that are not empty, and a reason where they only look like numbers."""
    if re.fullmatch(_LIKE_A_NUMBER, cells[0].as_py(), re.IGNORECASE) is None:
        return None, None
    strange = _first(cells, _matches(cells, _NUMBER))
    if strange is not None:
        similar = pc.all(_matches(cells, _LIKE_A_NUMBER)).as_py()
        return None, f"as a number, {strange[:40]!r} would change" if similar else None
    whole = _matches(cells, _INTEGER)
    integers = cells.filter(whole)
    try:
        sizes = pc.abs(integers.cast(pa.int64()))
    except pa.ArrowInvalid:
        return None, "an integer does not fit 64 bits"
    if len(integers) == len(cells):
        return pa.int64(), None
    strange = _first(integers, pc.less_equal(sizes, 2**53)) if len(sizes) else None
    others = cells.filter(pc.invert(whole))
    strange = strange or _first(others, _held(others))
    if strange is None:
        return pa.float64(), None
    return None, f"a floating-point number does not hold {strange[:40]!r}"


def _held(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which numbers are within the range of doubles."""
    numbers = cells.cast(pa.float64())
    is_zero = pc.and_(pc.equal(numbers, 0.0), _matches(cells, r"[^e]*[1-9].*"))
    is_infinite = pc.and_(pc.is_inf(numbers), pc.invert(_matches(cells, "-?inf")))
    return pc.invert(pc.or_(is_zero, is_infinite))

"""Read CSV files as Arrow tables; a column is typed only if all its cells can be restored exactly."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.data.columns import known_names
from curate.data.file_format import Format, Notes, TextFile
from curate.data.wording import first_line
from curate.errors import InputError
from curate.storage import mapped

_LEAST_BLOCK, _MOST_BLOCK = 16 << 20, 64 << 20  # bytes parsed at a time
_SAMPLE, _SAMPLE_ROWS = 1 << 16, 100  # bytes and rows that tell the delimiter
_DIVIDERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SEPARATOR = re.compile(r'"?sep=([!#-~\t ])"?\r?\n')
_BOOLEANS = (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))
_INTEGER = r"-?(0|[1-9][0-9]*)"
_NUMBER = r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|-?inf"
# Spellings that other readers parse as a number or a missing value.
_LIKE_A_NUMBER = r"\s*([-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[-+]?inf(inity)?|-?nan|#?n/?a|<na>|null|none)\s*"


def read_csv(
    files: Iterable[TextFile], text_columns: Sequence[str], delimiter: str | None = None
) -> tuple[pa.Table, Notes]:
    """The rows below the header, and (column, note) for each text column that looks like another type.

    files: path and content of each. text_columns: columns to keep as text, besides those with a known name.
    delimiter: of all files; None = the usual one (a tab for .tsv) or, if that does not divide the rows of a file, the
    semicolon, tab, bar or comma that does; ("", note) reports it.
    A column is integers, floats or booleans if all cells of all files are, in the spelling in which they would be
    written again (no leading zeros, plus signs or spaces); its empty cells are null. All other columns are text, with
    the characters of the file. Raises InputError with the line at fault.
    """
    tables, unusual = [], set()
    for path, data in files:
        uncompressed = path if path.suffix.lower() in CSV.suffixes else path.with_suffix("")
        usual = "\t" if uncompressed.suffix.lower() == ".tsv" else ","
        data, used = _divided(data, delimiter, usual)
        tables.append(_texts(path, data, used))
        unusual |= {used} - {usual, delimiter}
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")
    text_names = {name.casefold() for name in [*known_names(), *text_columns]}
    columns = []
    notes = [("", f"columns are divided by {_DIVIDERS.get(used, used)}") for used in sorted(unusual)]
    for name, cells in zip(table.column_names, table.columns, strict=True):
        column, note = (cells, None) if name.casefold() in text_names else _typed(cells)
        columns.append(column)
        notes += [] if note is None else [(name, f"column {name!r} is kept as text: {note}")]
    return pa.table(columns, names=table.column_names), notes


def _texts(path: Path, data: pa.Buffer, delimiter: str) -> pa.Table:
    """The table of a file with all cells as strings. Raises InputError with the line at fault."""
    import pyarrow.csv as pv

    if not data.size:
        raise InputError(f"{path} is empty; give a file with a header and at least one row")
    parse = pv.ParseOptions(delimiter=delimiter, newlines_in_values=True)

    def read(threads: bool) -> pa.Table:
        options = pv.ReadOptions(block_size=max(_LEAST_BLOCK, min(data.size // 16, _MOST_BLOCK)), use_threads=threads)
        header = pv.open_csv(pa.BufferReader(data), read_options=options, parse_options=parse).schema.names
        convert = pv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()))
        if data.size <= mapped.IN_MEMORY or not threads:
            return pv.read_csv(pa.BufferReader(data), options, parse, convert)
        with pv.open_csv(pa.BufferReader(data), options, parse, convert) as reader:
            return pa.concat_tables(mapped.spilled(map(_one_batch, reader)))

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
    _check_quotes(path, data, delimiter)
    return table


def _one_batch(batch: pa.RecordBatch) -> pa.Table:
    mapped.release()
    return pa.Table.from_batches([batch])


def _divided(data: pa.Buffer, delimiter: str | None, usual: str) -> tuple[pa.Buffer, str]:
    """The rows of a file and its delimiter; a first line `sep=;`, a convention of spreadsheets, is removed."""
    head = data.slice(0, min(_SAMPLE, data.size)).to_pybytes().decode(errors="ignore")
    separator_line = _SEPARATOR.match(head)
    if separator_line:
        return data.slice(len(separator_line[0].encode())), delimiter or separator_line[1]
    if delimiter is not None:
        return data, delimiter
    widths = {
        candidate: _widths(head, candidate)
        for candidate in (usual, *(candidate for candidate in _DIVIDERS if candidate != usual))
    }
    # Candidates that give all rows the same number of cells; if the usual one does not, take that of most columns.
    alike = [mark for mark in widths if len(set(widths[mark])) == 1 and widths[mark][0] > 1]
    if usual in alike or not alike:
        return data, usual
    return data, max(alike, key=lambda candidate: widths[candidate][0])


def _widths(head: str, delimiter: str) -> list[int]:
    """Number of cells of each row at the beginning of a file, without the last row, which may be cut off."""
    try:
        rows = list(islice(filter(None, csv.reader(StringIO(head, newline=""), delimiter=delimiter)), _SAMPLE_ROWS))
    except csv.Error:
        return []
    return [len(row) for row in (rows if len(rows) < 2 else rows[:-1])]


def _check_end(path: Path, data: pa.Buffer, table: pa.Table, delimiter: bytes) -> None:
    """Raise InputError if the last cell begins with an unclosed quote: the file was probably cut off."""
    if not len(table):
        return
    cell = b'"' + table.column(table.num_columns - 1)[-1].as_py().encode().replace(b'"', b'""')
    end = data.slice(max(0, data.size - len(cell) - 1)).to_pybytes()
    if end[1:] != cell or end[:1] not in (delimiter, b"\n", b"\r"):
        return
    content, quotes = np.frombuffer(data, np.uint8), 0  # (bytes,)
    for low in range(0, len(content), _LEAST_BLOCK):
        quotes += int(np.count_nonzero(content[low : low + _LEAST_BLOCK] == ord('"')))
        mapped.release()
    if quotes % 2:
        raise InputError(
            f"{path}, last row: the last cell begins with a quote that nothing closes; if the file was cut off, fetch "
            "or write it again"
        )


def _check_quotes(path: Path, data: pa.Buffer, delimiter: str) -> None:
    r"""Raise InputError if text follows the quote that closes a cell, as in `"a \"b\""`: Arrow reads `a \b\""`."""
    if _quotes_are_paired(np.frombuffer(data, np.uint8), ord(delimiter)):
        return
    # Quotes inside cells that do not begin with one are text; only a parser can tell them apart.
    lines = csv.reader(io.TextIOWrapper(pa.BufferReader(data), "utf-8", newline=""), delimiter=delimiter, strict=True)
    longest = csv.field_size_limit(sys.maxsize)
    try:
        for _ in lines:
            pass
    except csv.Error as error:
        if "expected after" in str(error):
            raise InputError(
                f"{path}, line {lines.line_num}: text follows the quote that closes a cell; inside a cell CSV writes a "
                'quote twice (""), not with a backslash and not once: write the file again, e.g. as JSON Lines'
            ) from error
    finally:
        csv.field_size_limit(longest)


def _quotes_are_paired(content: np.ndarray, delimiter: int) -> bool:
    """Whether every quote opens or closes a cell or stands beside another inside one. content: (n,) uint8."""
    quote, last, count = ord('"'), len(content) - 1, 0
    ends = np.array([delimiter, ord("\n"), ord("\r"), quote], np.uint8)
    for low in range(0, len(content), _LEAST_BLOCK):
        quotes = np.flatnonzero(content[low : low + _LEAST_BLOCK] == quote) + low  # (quotes of the block,) positions
        opening, closing = quotes[count % 2 :: 2], quotes[1 - count % 2 :: 2]
        before = np.isin(content[np.maximum(opening - 1, 0)], ends) | (opening == 0)
        after = np.isin(content[np.minimum(closing + 1, last)], ends) | (closing == last)
        if not (before.all() and after.all()):
            return False
        count += len(quotes)
        mapped.release()
    return count % 2 == 0


def _typed(cells: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str | None]:
    """The typed column, or the unchanged text and, if other readers would convert it, the reason for keeping text."""
    first = _first(cells, pc.equal(cells, ""))
    if first is None:
        return pa.chunked_array([pa.nulls(len(cells))]), None
    if re.fullmatch(_LIKE_A_NUMBER, first, re.IGNORECASE) is None and not any(
        first in spellings for spellings in _BOOLEANS
    ):
        return cells, None  # plain text, without a pass over all cells
    filled = cells.filter(pc.not_equal(cells, ""))
    if _are_booleans(filled):
        missing = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
        return pc.equal(pc.utf8_lower(missing), "true"), None
    kind, reason = _number_type(filled)
    if kind is None:
        return cells, reason
    missing = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
    return missing.cast(kind), None


def _are_booleans(cells: pa.ChunkedArray) -> bool:
    first = cells[0].as_py()
    spellings = next((candidates for candidates in _BOOLEANS if first in candidates), None)
    return spellings is not None and bool(pc.all(pc.is_in(cells, pa.array(spellings))).as_py())


def _first(cells: pa.ChunkedArray, mask: pa.ChunkedArray) -> str | None:
    """The first cell where the mask is false."""
    first = pc.index(mask, pa.scalar(False)).as_py()
    return None if first < 0 else cells[first].as_py()


def _matches(cells: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    return pc.match_substring_regex(cells, f"^(?i:{pattern})$")


def _number_type(cells: pa.ChunkedArray) -> tuple[pa.DataType | None, str | None]:
    """int64, float64 or None for non-empty cells, and the reason if they look like numbers but cannot be converted."""
    if re.fullmatch(_LIKE_A_NUMBER, cells[0].as_py(), re.IGNORECASE) is None:
        return None, None
    misfit = _first(cells, _matches(cells, _NUMBER))
    if misfit is not None:
        similar = pc.all(_matches(cells, _LIKE_A_NUMBER)).as_py()
        return None, f"as a number, {misfit[:40]!r} would change" if similar else None
    is_integer = _matches(cells, _INTEGER)
    integers = cells.filter(is_integer)
    try:
        sizes = pc.abs(integers.cast(pa.int64()))
    except pa.ArrowInvalid:
        return None, "an integer does not fit 64 bits"
    if len(integers) == len(cells):
        return pa.int64(), None
    misfit = _first(integers, pc.less_equal(sizes, 2**53)) if len(sizes) else None
    fractions = cells.filter(pc.invert(is_integer))
    misfit = misfit or _first(fractions, _held(fractions))
    if misfit is None:
        return pa.float64(), None
    return None, f"a floating-point number does not hold {misfit[:40]!r}"


def _held(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """(n,) whether each number is within the range of doubles, neither overflowing nor underflowing to zero."""
    numbers = cells.cast(pa.float64())
    is_zero = pc.and_(pc.equal(numbers, 0.0), _matches(cells, r"[^e]*[1-9].*"))
    is_infinite = pc.and_(pc.is_inf(numbers), pc.invert(_matches(cells, "-?inf")))
    return pc.invert(pc.or_(is_zero, is_infinite))


CSV = Format(
    "CSV",
    (".csv", ".tsv"),
    "a header, then rows; commas, semicolons, tabs and bars are found",
    parse=read_csv,
    has_delimiter=True,
)
